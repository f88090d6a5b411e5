/* A model server that costs next to nothing: `upstream PORT`, one thread, epoll, until it is killed.

   What it answers stands in the text of the request, so that no proxy that drops a header or a member can change it:
   "[bytes=900]" is the length of a JSON answer's content, "[chunks=200 pace_ms=10]" a stream of 200 chunks, one every
   10 ms (0: all at once). A chunk's content is "@SEQUENCE NANOSECONDS ": which it is and when it was sent. */
#include "common.h"

struct connection {
    int fd;
    unsigned generation; /* goes up when the connection ends, so that a timer for a former one is known as such */
    int sends;           /* EPOLLOUT is asked for */
    struct buffer in, out;
    long chunks, sent; /* of the stream under way; chunks 0: there is none */
    int64_t pace_ns, due_ns;
    int tells_usage;
};

/* A binary heap of when the next chunk of which stream is due. */
struct timer {
    int64_t due_ns;
    struct connection *connection;
    unsigned generation;
};

static struct timer *timers;
static size_t timer_count, timer_room;
static int epoll;
static struct connection *spare[65536];
static size_t spare_count;

static void add_timer(struct connection *connection) {
    if (timer_count == timer_room) {
        timer_room = timer_room ? timer_room * 2 : 1024;
        timers = grown(timers, timer_room * sizeof *timers);
    }
    size_t at = timer_count++;
    for (; at > 0 && timers[(at - 1) / 2].due_ns > connection->due_ns; at = (at - 1) / 2) timers[at] = timers[(at - 1) / 2];
    timers[at] = (struct timer){connection->due_ns, connection, connection->generation};
}

static struct timer next_timer(void) {
    struct timer first = timers[0], last = timers[--timer_count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < timer_count) {
        if (child + 1 < timer_count && timers[child + 1].due_ns < timers[child].due_ns) child++;
        if (timers[child].due_ns >= last.due_ns) break;
        timers[at] = timers[child];
        at = child;
    }
    timers[at] = last;
    return first;
}

static void end(struct connection *connection) {
    close(connection->fd);
    connection->generation++;
    connection->chunks = 0;
    connection->in.start = connection->in.end = connection->out.start = connection->out.end = 0;
    if (spare_count < sizeof spare / sizeof *spare) spare[spare_count++] = connection;
}

static int flush_out(struct connection *connection) {
    int all = buffer_send(&connection->out, connection->fd);
    if (all < 0) return -1;
    if (connection->sends != !all) {
        connection->sends = !all;
        watch(epoll, EPOLL_CTL_MOD, connection->fd, EPOLLIN | (all ? 0 : EPOLLOUT), connection);
    }
    return 0;
}

/* One event of a stream, framed as a chunk of HTTP's own. */
static void add_event(struct connection *connection, const char *event, int length) {
    char *at = buffer_room(&connection->out, (size_t)length + 24);
    int size = sprintf(at, "%x\r\ndata: ", length + 8);
    memcpy(at + size, event, (size_t)length);
    memcpy(at + size + length, "\n\n\r\n", 4);
    connection->out.end += (size_t)(size + length + 4);
}

#define CHUNK "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench\""

static void add_content(struct connection *connection) {
    char event[400];
    int length = sprintf(
        event, CHUNK ",\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\"@%ld %lld \"},\"finish_reason\":null}]}",
        connection->sent ? "" : "\"role\":\"assistant\",", connection->sent, (long long)now_ns());
    connection->sent++;
    add_event(connection, event, length);
}

static void add_ending(struct connection *connection) {
    char event[400];
    add_event(connection, CHUNK ",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}",
              (int)strlen(CHUNK ",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}"));
    if (connection->tells_usage) {
        int length = sprintf(
            event, CHUNK ",\"choices\":[],\"usage\":{\"prompt_tokens\":250,\"completion_tokens\":%ld,\"total_tokens\":%ld}}",
            connection->chunks, connection->chunks + 250);
        add_event(connection, event, length);
    }
    add_event(connection, "[DONE]", 6);
    buffer_add(&connection->out, "0\r\n\r\n", 5);
    connection->chunks = 0;
}

/* Send what is due of a stream and plan the rest. The pace runs from the first chunk, so that it does not drift. */
static void go_on(struct connection *connection) {
    int64_t now = now_ns();
    while (connection->sent < connection->chunks && connection->due_ns <= now) {
        add_content(connection);
        connection->due_ns += connection->pace_ns;
    }
    if (connection->sent == connection->chunks) add_ending(connection);
    else add_timer(connection);
}

static long number_after(const char *text, size_t length, const char *name, long otherwise) {
    const char *found = memmem(text, length, name, strlen(name));
    return found ? strtol(found + strlen(name), NULL, 10) : otherwise;
}

static void add_json(struct connection *connection, const char *status, const char *body, size_t length) {
    char head[200];
    int size = sprintf(head, "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", status, length);
    buffer_add(&connection->out, head, (size_t)size);
    buffer_add(&connection->out, body, length);
}

static void answer_completion(struct connection *connection, const char *body, size_t length) {
    if (memmem(body, length, "\"stream\":true", 13) || memmem(body, length, "\"stream\": true", 14)) {
        static const char head[] =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
        buffer_add(&connection->out, head, sizeof head - 1);
        connection->chunks = number_after(body, length, "[chunks=", 16);
        connection->pace_ns = number_after(body, length, " pace_ms=", 0) * 1000000LL;
        connection->tells_usage = memmem(body, length, "\"include_usage\"", 15) != NULL;
        connection->sent = 0;
        connection->due_ns = now_ns();
        go_on(connection);
        return;
    }
    static char answer[1 << 20];
    size_t content = (size_t)number_after(body, length, "[bytes=", 600);
    if (content > sizeof answer - 1000) content = sizeof answer - 1000;
    int size = sprintf(answer,
                       "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\","
                       "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"");
    for (size_t done = 0; done < content; done++) answer[size++] = "answer "[done % 7];
    size += sprintf(answer + size, "\"},\"finish_reason\":\"stop\"}],"
                                   "\"usage\":{\"prompt_tokens\":250,\"completion_tokens\":120,\"total_tokens\":370}}");
    add_json(connection, "200 OK", answer, (size_t)size);
}

/* Answer each request that is wholly there; one after the other, as HTTP/1.1 says. */
static int take_requests(struct connection *connection) {
    size_t head;
    while (connection->chunks == 0 && (head = head_length(&connection->in)) > 0) {
        const char *from = connection->in.bytes + connection->in.start;
        const char *stated = header_value(from, head, "content-length:");
        size_t length = stated ? strtoul(stated, NULL, 10) : 0;
        if (header_value(from, head, "transfer-encoding:")) {
            add_json(connection, "411 Length Required", "{}", 2);
            flush_out(connection);
            return -1;
        }
        if (buffer_held(&connection->in) < head + length) break;
        if (memmem(from, head, "/chat/completions", 17)) answer_completion(connection, from + head, length);
        else if (memmem(from, head, "/v1/models", 10)) {
            static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\"}]}";
            add_json(connection, "200 OK", models, sizeof models - 1);
        } else add_json(connection, "200 OK", "{}", 2); /* /health, and what receives telemetry */
        connection->in.start += head + length;
    }
    return flush_out(connection);
}

static void welcome(int listener) {
    int fd;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        struct connection *connection = spare_count ? spare[--spare_count] : NULL;
        if (connection == NULL) {
            connection = grown(NULL, sizeof *connection);
            memset(connection, 0, sizeof *connection);
        }
        connection->fd = fd;
        connection->sends = 0;
        prepare_socket(fd);
        watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, connection);
    }
}

static void serve_timers(void) {
    while (timer_count > 0 && timers[0].due_ns <= now_ns()) {
        struct timer timer = next_timer();
        struct connection *connection = timer.connection;
        if (timer.generation != connection->generation) continue;
        go_on(connection);
        if ((connection->chunks ? flush_out(connection) : take_requests(connection)) < 0) end(connection);
    }
}

int main(int count, char **words) {
    if (count != 2) return fprintf(stderr, "usage: upstream PORT\n"), 2;
    raise_descriptor_limit();
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in address = loopback(atoi(words[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
    if (listen(listener, 4096) < 0) die("listen");
    prepare_socket(listener);
    epoll = epoll_create1(0);
    watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    struct epoll_event events[512];
    for (;;) {
        int64_t wait_ns = timer_count ? timers[0].due_ns - now_ns() : 1000000000;
        int ready = epoll_wait(epoll, events, 512, wait_ns > 0 ? (int)((wait_ns + 999999) / 1000000) : 0);
        for (int one = 0; one < ready; one++) {
            struct connection *connection = events[one].data.ptr;
            if (connection == NULL) welcome(listener);
            else if (events[one].events & (EPOLLIN | EPOLLHUP | EPOLLERR) &&
                     buffer_read(&connection->in, connection->fd, 1 << 18) < 0) end(connection);
            else if ((connection->chunks ? flush_out(connection) : take_requests(connection)) < 0) end(connection);
        }
        serve_timers();
    }
}
