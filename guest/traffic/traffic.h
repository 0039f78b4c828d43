/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What runs in a guest to shape links, and to send over them.  A program of our
 * own in place of tc, ethtool, iperf3, netperf and ping: it does nothing but
 * this, so it does the same each time; it is one small static file; it measures
 * in the guest's nanoseconds; and it can set the number that netem draws its
 * losses with, which tc can since iproute2 6.6.
 *
 * Results are lines of a name and its values on standard output; times are
 * nanoseconds of CLOCK_MONOTONIC, which network namespaces of a guest share.
 * What fails ends the program with status 1, what is called wrongly with 2.
 */
#ifndef LINKLAB_TRAFFIC_H
#define LINKLAB_TRAFFIC_H

#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define SECOND UINT64_C(1000000000)
#define MILLISECOND UINT64_C(1000000)
#define PROTOCOL_MPTCP 262 /* IPPROTO_MPTCP: newer than many headers */
#define MOST_FLOWS 65536
#define PATIENCE (10 * SECOND) /* with a peer that has not begun yet, or ended silently */

/* The commands; argv begins behind the name, and ends with NULL. */
void plain(char **argv);
void napi(char **argv);
void shape(char **argv);
void dark(char **argv);
void bare(char **argv);
void sink(char **argv);
void send_flows(char **argv);
void stream(char **argv);
void request(char **argv);
void serve(char **argv);
void train(char **argv);
void count_train(char **argv);
void echo(char **argv);
void ping(char **argv);
void connect_often(char **argv);
void strip(char **argv);
void watch_interfaces(char **argv);
void watch_queue(char **argv);
void relay(char **argv);
void flood(char **argv);
void capture(char **argv);
void nic(char **argv);

/* What a queue counts: packets. */
struct queue_look {
	uint64_t at, waiting, sent, marked;
};
void look_at_queue(int interface, struct queue_look *look);

/* Ends the program: says what the system call that failed last was for, and why it failed. */
_Noreturn void fault(const char *what);

/* The number that an argument is; ends the program unless it is one within these bounds. */
uint64_t number(const char *text, uint64_t least, uint64_t most);
int64_t whole(const char *text, int64_t least, int64_t most);

/* What is in a file; ends the program where it cannot be read. */
char *content_of(const char *path, size_t *length);

/* IPPROTO_TCP, PROTOCOL_MPTCP or IPPROTO_UDP; ends the program at any other word. */
int protocol(const char *text);

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

union address address_of(const char *text, const char *port);
union address address_after(union address base, uint32_t steps);
socklen_t address_length(const union address *address);

/* A new socket that is not inherited; flags are those of socket(2).  Ends the program without. */
int open_socket(int family, int kind, int flags);
int socket_type(int kind);

/*
 * A socket that is bound to a port of all addresses of the host, IPv6 and IPv4
 * where the kernel has both, and listens where the protocol knows of it.
 */
int listen_at(int kind, const char *port, int backlog, int flags);

uint64_t now_ns(void);

/* What this process has had of the CPU. */
uint64_t cpu_ns(void);

/*
 * Waits with an epoll instance until something is ready, or until an instant;
 * returns how many events there are.  A timerfd would do, but the lab's own
 * kernels have none.
 */
#define EVENTS 1024 /* at a time */
struct epoll_event;
size_t wait_ready(int epoll, struct epoll_event *ready, uint64_t until);
void watch(int epoll, int operation, int fd, uint32_t events, uint32_t data);

/*
 * A request of traffic control, and what is appended to it; `tc_ask` sends it and
 * returns what the kernel says: 0, or -1 with errno.
 */
struct tc_request {
	struct nlmsghdr head;
	struct tcmsg tc;
	char attributes[512];
};

int tc_ask(struct tc_request *r);

/* Lines of output. */
void say(const char *name, uint64_t value);
void say_each(const char *name, const uint64_t *first, size_t stride, size_t count);
void say_listening(void);
void say_cpu(void);

/* Sorts, and then the value that so many of 1000 are not above; 0 where there are none. */
void sort(uint64_t *values, size_t count);
uint64_t quantile(const uint64_t *sorted, size_t count, size_t of_1000);

/*
 * The bytes that every stream carries: byte i is the same as byte i + 65536.
 * `pattern_at` can be read for CHUNK bytes, which is what one call moves.
 */
#define CHUNK (128 * 1024)
#define DATAGRAM 1400 /* bytes of a UDP flow's datagram; the first 8 say where in the stream it is */
void pattern_make(void);
const unsigned char *pattern_at(uint64_t offset);
bool pattern_is(const unsigned char *bytes, uint64_t offset, size_t length);

#endif
