/* What the mock upstream and the load share: growing buffers, a clock, and just enough of HTTP/1.1 to be checked by.

   Both run on loopback for a benchmark. What they cannot read they refuse loudly, so that no figure rests on a guess. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Bytes that wait: to be read (from `start`) or to be sent. */
struct buffer {
    char *bytes;
    size_t start, end, room;
};

static inline void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline void *grown(void *old, size_t size) {
    void *bytes = realloc(old, size);
    if (bytes == NULL) die("memory");
    return bytes;
}

/* Make room for `more` bytes at the end and return where they go. */
static inline char *buffer_room(struct buffer *buffer, size_t more) {
    if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
    if (buffer->room - buffer->end < more && buffer->start > 0) {
        memmove(buffer->bytes, buffer->bytes + buffer->start, buffer->end - buffer->start);
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    if (buffer->room - buffer->end < more) {
        buffer->room = (buffer->end + more) * 2;
        buffer->bytes = grown(buffer->bytes, buffer->room);
    }
    return buffer->bytes + buffer->end;
}

static inline void buffer_add(struct buffer *buffer, const char *bytes, size_t length) {
    memcpy(buffer_room(buffer, length), bytes, length);
    buffer->end += length;
}

static inline size_t buffer_held(const struct buffer *buffer) { return buffer->end - buffer->start; }

/* Read what has come, `most` at once. 1: something; 0: nothing yet; -1: the other side is gone. */
static inline int buffer_read(struct buffer *buffer, int fd, size_t most) {
    ssize_t count = read(fd, buffer_room(buffer, most), most);
    if (count > 0) {
        buffer->end += (size_t)count;
        return 1;
    }
    return count < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

/* Send what waits. 1: all is gone; 0: some still waits; -1: the other side is gone. */
static inline int buffer_send(struct buffer *buffer, int fd) {
    while (buffer_held(buffer) > 0) {
        ssize_t count = send(fd, buffer->bytes + buffer->start, buffer_held(buffer), MSG_NOSIGNAL);
        if (count < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
        buffer->start += (size_t)count;
    }
    return 1;
}

/* CLOCK_MONOTONIC, which mock and load share, so that a chunk can carry the time it was sent. */
static inline int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static inline void prepare_socket(int fd) {
    int yes = 1;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) die("fcntl");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline void watch(int epoll, int operation, int fd, uint32_t events, void *whose) {
    struct epoll_event event = {.events = events, .data.ptr = whose};
    if (epoll_ctl(epoll, operation, fd, &event) < 0) die("epoll_ctl");
}

/* Open as many files as the system grants: a connection is one. */
static inline void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* The value of a header in a head that ends with an empty line; NULL: it has none. `name` with its colon. */
static inline const char *header_value(const char *head, size_t length, const char *name) {
    size_t size = strlen(name);
    const char *end = head + length, *line = head;
    while ((line = memchr(line, '\n', (size_t)(end - line))) != NULL && (size_t)(end - ++line) > size) {
        if (strncasecmp(line, name, size) == 0) {
            line += size;
            while (line < end && *line == ' ') line++;
            return line;
        }
    }
    return NULL;
}

/* How long the head is, its empty line included; 0: it is not all there. */
static inline size_t head_length(const struct buffer *buffer) {
    const char *from = buffer->bytes + buffer->start;
    const char *found = buffer_held(buffer) ? memmem(from, buffer_held(buffer), "\r\n\r\n", 4) : NULL;
    return found ? (size_t)(found - from) + 4 : 0;
}

#endif
