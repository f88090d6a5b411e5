/* The load: sends one request again and again, checks every answer, and tells in one line of JSON what it saw.

   load PORT REQUEST CONNECTIONS SECONDS RATE RAMP CHUNKS PACE_MS
     REQUEST      a file with the whole request as it goes over the wire
     SECONDS      until when requests are begun; each connection sends at least one
     RATE         0: each connection sends its next request when its last is answered (closed loop);
                  else requests begin at this rate and their time counts from when they were due (open loop)
     RAMP         seconds over which the connections are opened
     CHUNKS       that a stream has to have, 0: the answer is JSON
     PACE_MS      between two of them, to tell how late the last was */
#include "common.h"
#include <sys/timerfd.h>

enum framing { NO_HEAD, BY_LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILERS };

struct connection {
    int fd; /* -1: it is not open */
    int is_busy, sends;
    struct buffer in, out, text; /* text: the body, or of a stream what is not yet a whole line */
    enum framing framing;
    size_t remaining;
    int64_t starts_ns; /* 0: the connection has begun */
    int64_t due_ns, first_ns, last_ns; /* when the request was due, when content came first and last */
    long chunks;
    int is_done, closes;
};

struct samples {
    int64_t *values;
    size_t count, room;
};

static struct samples latency, first, one_way, lag;
static struct buffer request;
static struct connection *connections, **idle;
static size_t connection_count, idle_count, busy_count, busy_peak;
static long wanted_chunks, requests, errors, chunks, lost;
static const char *first_error = "";
static int64_t pace_ns, end_ns, last_end_ns;
static int port, epoll, timer, is_open_loop;

static void add(struct samples *samples, int64_t value) {
    if (samples->count == samples->room) {
        samples->room = samples->room ? samples->room * 2 : 4096;
        samples->values = grown(samples->values, samples->room * sizeof *samples->values);
    }
    samples->values[samples->count++] = value;
}

static int in_order(const void *one, const void *other) {
    int64_t left = *(const int64_t *)one, right = *(const int64_t *)other;
    return (left > right) - (left < right);
}

static void tell(const char *name, struct samples *samples) {
    size_t count = samples->count;
    qsort(samples->values, count, sizeof *samples->values, in_order);
    printf("\"%s\":", name);
    if (count == 0) printf("null,");
    else printf("{\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f},", (double)samples->values[count / 2] / 1e3,
                (double)samples->values[count * 99 / 100] / 1e3, (double)samples->values[count - 1] / 1e3);
}

static void finish(int64_t began_ns) {
    printf("{\"requests\":%ld,\"errors\":%ld,\"error\":\"%s\",\"chunks\":%ld,\"lost\":%ld,\"open\":%zu,", requests,
           errors, first_error, chunks, lost, busy_peak);
    tell("latency", &latency);
    tell("first", &first);
    tell("one_way", &one_way);
    tell("lag", &lag);
    printf("\"seconds\":%.6f}\n", (double)(last_end_ns - began_ns) / 1e9);
    exit(0);
}

static void release(struct connection *connection) {
    connection->is_busy = 0;
    busy_count--;
    last_end_ns = now_ns();
}

static void shut(struct connection *connection) {
    if (connection->fd >= 0) close(connection->fd);
    connection->fd = -1;
    connection->in.start = connection->in.end = connection->out.start = connection->out.end = 0;
}

static void fail(struct connection *connection, const char *why) {
    if (connection->is_busy) {
        if (errors++ == 0) first_error = why;
        release(connection);
    }
    shut(connection);
}

static void flush_out(struct connection *connection) {
    int all = buffer_send(&connection->out, connection->fd);
    if (all < 0) {
        fail(connection, "closed while sending");
        return;
    }
    if (connection->sends != !all) {
        connection->sends = !all;
        watch(epoll, EPOLL_CTL_MOD, connection->fd, EPOLLIN | (all ? 0 : EPOLLOUT), connection);
    }
}

static void begin(struct connection *connection, int64_t due_ns) {
    connection->is_busy = 1;
    if (++busy_count > busy_peak) busy_peak = busy_count;
    connection->framing = NO_HEAD;
    connection->first_ns = connection->last_ns = connection->chunks = 0;
    connection->is_done = connection->closes = 0;
    connection->text.start = connection->text.end = 0;
    connection->due_ns = due_ns;
    if (connection->fd < 0) {
        struct sockaddr_in address = loopback(port);
        connection->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connection->fd < 0) die("socket");
        if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) < 0) {
            fail(connection, "connection refused");
            return;
        }
        prepare_socket(connection->fd);
        connection->sends = 0;
        watch(epoll, EPOLL_CTL_ADD, connection->fd, EPOLLIN, connection);
    }
    buffer_add(&connection->out, request.bytes, request.end);
    flush_out(connection);
}

/* One line of a stream. A chunk names its place and the time it was sent: "@12 123456789 ". */
static void take_line(struct connection *connection, const char *line, size_t length) {
    if (length < 6 || memcmp(line, "data:", 5) != 0) return;
    if (memmem(line, length, "[DONE]", 6)) {
        connection->is_done = 1;
        return;
    }
    const char *mark = memchr(line, '@', length);
    if (mark == NULL) return;
    char *rest;
    long place = strtol(mark + 1, &rest, 10);
    int64_t now = now_ns();
    if (place != connection->chunks) lost++;
    if (connection->first_ns == 0) connection->first_ns = now;
    connection->last_ns = now;
    connection->chunks = place + 1;
    chunks++;
    add(&one_way, now - strtoll(rest, NULL, 10));
}

static void take_payload(struct connection *connection, const char *bytes, size_t length) {
    struct buffer *text = &connection->text;
    buffer_add(text, bytes, length);
    if (wanted_chunks == 0) return;
    const char *from = text->bytes + text->start, *end = text->bytes + text->end, *stop;
    while (from < end && (stop = memchr(from, '\n', (size_t)(end - from))) != NULL) {
        take_line(connection, from, (size_t)(stop - from));
        from = stop + 1;
    }
    text->start = (size_t)(from - text->bytes);
}

/* The answer is whole: check it. NULL: it is as it should be. */
static const char *fault_of(const struct connection *connection) {
    if (wanted_chunks == 0) {
        const struct buffer *text = &connection->text;
        return buffer_held(text) && memmem(text->bytes + text->start, buffer_held(text), "\"total_tokens\"", 14)
                   ? NULL
                   : "an answer without usage";
    }
    if (connection->chunks != wanted_chunks) return "a stream with too few chunks";
    return connection->is_done ? NULL : "a stream without [DONE]";
}

static void complete(struct connection *connection) {
    const char *fault = fault_of(connection);
    if (fault) {
        fail(connection, fault);
        return;
    }
    requests++;
    add(&latency, now_ns() - connection->due_ns);
    add(&first, connection->first_ns - connection->due_ns);
    if (wanted_chunks) add(&lag, connection->last_ns - connection->first_ns - (wanted_chunks - 1) * pace_ns);
    release(connection);
    if (connection->closes) shut(connection);
    if (!is_open_loop && last_end_ns < end_ns) begin(connection, last_end_ns);
}

/* Read the head. 1: go on with the body; 0: it is not all there; -1: it failed. */
static int take_head(struct connection *connection) {
    size_t length = head_length(&connection->in);
    if (length == 0) return 0;
    const char *head = connection->in.bytes + connection->in.start;
    if (length < 12 || memcmp(head + 8, " 200", 4) != 0) return fail(connection, "a status that is not 200"), -1;
    const char *stated = header_value(head, length, "content-length:");
    const char *closes = header_value(head, length, "connection:");
    connection->closes = closes && strncasecmp(closes, "close", 5) == 0;
    if (stated) {
        connection->framing = BY_LENGTH;
        connection->remaining = strtoul(stated, NULL, 10);
    } else if (header_value(head, length, "transfer-encoding:")) connection->framing = CHUNK_SIZE;
    else return fail(connection, "an answer without length"), -1;
    if (wanted_chunks == 0) connection->first_ns = now_ns();
    connection->in.start += length;
    return 1;
}

/* Take a line that ends with CRLF out of what has come; 0: it is not all there. */
static int take_crlf(struct buffer *in, size_t *size) {
    const char *from = in->bytes + in->start, *stop = memchr(from, '\n', buffer_held(in));
    if (stop == NULL) return 0;
    *size = (size_t)(stop - from) + 1;
    in->start += *size;
    return 1;
}

/* Take as much of the answer as has come. */
static void take_answer(struct connection *connection) {
    struct buffer *in = &connection->in;
    size_t size;
    if (connection->framing == NO_HEAD && take_head(connection) <= 0) return;
    while (connection->is_busy) {
        switch (connection->framing) {
        case BY_LENGTH:
        case CHUNK_DATA:
            size = buffer_held(in) < connection->remaining ? buffer_held(in) : connection->remaining;
            if (size) take_payload(connection, in->bytes + in->start, size);
            in->start += size;
            connection->remaining -= size;
            if (connection->remaining) return;
            if (connection->framing == BY_LENGTH) complete(connection);
            else connection->framing = CHUNK_END;
            break;
        case CHUNK_SIZE: {
            const char *line = in->bytes + in->start;
            if (!buffer_held(in) || !take_crlf(in, &size)) return;
            connection->remaining = strtoul(line, NULL, 16);
            connection->framing = connection->remaining ? CHUNK_DATA : TRAILERS;
            break;
        }
        case CHUNK_END:
            if (!buffer_held(in) || !take_crlf(in, &size)) return;
            connection->framing = CHUNK_SIZE;
            break;
        case TRAILERS:
            if (!buffer_held(in) || !take_crlf(in, &size)) return;
            if (size == 2) complete(connection);
            break;
        case NO_HEAD: return;
        }
    }
}

static void read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) die(path);
    size_t count;
    while ((count = fread(buffer_room(&request, 65536), 1, 65536, file)) > 0) request.end += count;
    fclose(file);
}

/* Begin what is due in an open loop; a request that finds no free connection waits, and its time counts. */
static int64_t begin_at_rate(int64_t next_ns, int64_t step_ns) {
    idle_count = 0;
    for (size_t one = connection_count; one-- > 0;)
        if (!connections[one].is_busy) idle[idle_count++] = &connections[one];
    while (next_ns <= now_ns() && next_ns < end_ns && idle_count > 0) {
        begin(idle[--idle_count], next_ns);
        next_ns += step_ns;
    }
    return next_ns;
}

/* Begin what the ramp has come to, and again what failed; return when to look next. */
static int64_t begin_closed(int64_t now) {
    int64_t next_ns = now + 100000000;
    for (size_t one = 0; one < connection_count; one++) {
        struct connection *connection = &connections[one];
        if (connection->is_busy) continue;
        if (connection->starts_ns > now) {
            if (connection->starts_ns < next_ns) next_ns = connection->starts_ns;
        } else if (connection->starts_ns || now < end_ns) {
            connection->starts_ns = 0;
            begin(connection, now_ns());
        }
    }
    return next_ns;
}

/* Wake at this time: epoll's own timeout is in whole milliseconds, which is longer than a request takes. */
static void wake_at(int64_t when_ns) {
    struct itimerspec at = {.it_value = {when_ns / 1000000000, when_ns % 1000000000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static int is_all_begun(int64_t next_ns) {
    if (is_open_loop) return next_ns >= end_ns;
    for (size_t one = 0; one < connection_count; one++)
        if (connections[one].starts_ns) return 0;
    return now_ns() >= end_ns;
}

static void take_event(struct connection *connection, uint32_t events) {
    if (connection->fd >= 0 && events & EPOLLOUT) flush_out(connection);
    if (connection->fd < 0 || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    int came = buffer_read(&connection->in, connection->fd, 1 << 16);
    if (came < 0) fail(connection, "closed before the answer was whole");
    else if (came > 0 && connection->is_busy) take_answer(connection);
}

static void run(double rate) {
    struct epoll_event events[512];
    int64_t began_ns = now_ns(), next_ns = began_ns, heard_ns = began_ns;
    for (;;) {
        if (is_open_loop) next_ns = begin_at_rate(next_ns, (int64_t)(1e9 / rate));
        else if (now_ns() >= next_ns) next_ns = begin_closed(now_ns());
        if ((busy_count == 0 && is_all_begun(next_ns)) || errors > 100) finish(began_ns);
        if (next_ns > now_ns()) wake_at(next_ns);
        int ready = epoll_wait(epoll, events, 512, next_ns <= now_ns() && next_ns < end_ns ? 1 : 100);
        for (int one = 0; one < ready; one++) {
            if (events[one].data.ptr) heard_ns = now_ns();
            if (events[one].data.ptr) take_event(events[one].data.ptr, events[one].events);
            else if (read(timer, &(uint64_t){0}, 8) < 0 && errno != EAGAIN) die("timer");
        }
        if (busy_count && now_ns() - heard_ns > 30000000000LL) {
            errors += (long)busy_count;
            first_error = "nothing came for 30 seconds";
            finish(began_ns);
        }
    }
}

int main(int count, char **words) {
    if (count != 9) return fprintf(stderr, "usage: load PORT REQUEST CONNECTIONS SECONDS RATE RAMP CHUNKS PACE_MS\n"), 2;
    raise_descriptor_limit();
    port = atoi(words[1]);
    read_file(words[2]);
    connection_count = strtoul(words[3], NULL, 10);
    double rate = atof(words[5]), ramp = atof(words[6]);
    is_open_loop = rate > 0;
    wanted_chunks = atol(words[7]);
    pace_ns = atol(words[8]) * 1000000;
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    watch(epoll, EPOLL_CTL_ADD, timer, EPOLLIN, NULL);
    connections = grown(NULL, connection_count * sizeof *connections);
    memset(connections, 0, connection_count * sizeof *connections);
    idle = grown(NULL, connection_count * sizeof *idle);
    int64_t now = now_ns();
    end_ns = now + (int64_t)(atof(words[4]) * 1e9);
    for (size_t one = 0; one < connection_count; one++) {
        connections[one].fd = -1;
        connections[one].starts_ns = now + (int64_t)(ramp * 1e9 * (double)one / (double)connection_count);
    }
    run(rate);
}
