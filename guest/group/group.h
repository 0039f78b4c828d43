/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * linklab-group: what groups of network interfaces lack in the kernel, on any kernel that
 * has them: names, trees, inheritance, addresses that count up, all or nothing, digests.
 *
 * What the kernel refuses ends the program with status 1, what is asked wrongly, a wrong
 * file too, with 2.  Memory that is short ends it before anything is changed.
 */
#ifndef LINKLAB_GROUP_H
#define LINKLAB_GROUP_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../netlink/netlink.h"

#define MOST_GROUP 0x7fffffffu /* the kernel keeps an int, and iproute2 takes no negative one */

struct options {
	const char *names;   /* the folder of iproute2's files */
	const char *tree;    /* the tree's file */
	const char *journal;
	bool atomic, dry_run, json;
};
extern struct options options;

/* The commands; argv begins behind the name, and ends with NULL.  Return the exit status. */
int do_names(char **argv);
int do_tree(char **argv);
int do_mask(char **argv);
int do_encode(char **argv);
int do_set(char **argv);
int do_apply(char **argv);
int do_assign(char **argv);
int do_recover(char **argv);
int do_list(char **argv);
int do_watch(char **argv);
int do_inherit(char **argv);

/* Ends the program; says that the journal stays, if it does. */
_Noreturn void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void misused(const char *format, ...) __attribute__((format(printf, 1, 2)));
void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

extern bool journal_stays; /* a change has begun that `recover` can undo or finish */

/* Memory for so many more items of an array that grows; ends the program without. */
void *grown(void *items, size_t count, size_t *capacity, size_t size);
void *cleared(size_t count, size_t size);

/* The number that a word is, in C's notation; false unless it is one within these bounds. */
bool number_of(const char *word, uint64_t least, uint64_t most, uint64_t *number);

/* Output, kept until it is much: a list of 10,000 lines is not 10,000 system calls. */
void put(const char *text);
void put_bytes(const char *bytes, size_t len);
void put_number(uint64_t number);
void put_json(const char *text); /* quoted */
#define LINE_MOST 4096 /* bytes of what is told of one thing */
size_t json_quoted(char *to, size_t room, const char *text);
void put_flush(void);

/* A whole file, ended with a NUL, to be freed; NULL with errno. */
char *file_read(const char *path, size_t *len);

/* What is wrong with a file: where, and what. */
struct wrong {
	size_t line;
	char text[200];
};
bool wrong_at(struct wrong *why, size_t line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The next word of a line, ended in place; NULL at its end, and where a comment begins. */
char *word_of(char **line);
/* The next line of a text, ended in place; NULL at its end. */
char *line_of(char **text);

/* A table by numbers.  An item begins with its key. */
struct table {
	char *items;
	unsigned char *used;
	size_t size, slots, count, filled;
};
void *table_find(const struct table *t, uint32_t key);
void *table_add(struct table *t, uint32_t key); /* the one that is there, or a cleared one */
void table_remove(struct table *t, uint32_t key);
void *table_next(const struct table *t, size_t *slot); /* *slot is 0 at first */
void table_empty(struct table *t);

/* Names of groups, by iproute2's files and rules. */
void names_load(void);
void names_parse(char *text, const char *path);
void names_forget(void); /* they are read again when one is asked for */
bool group_named(const char *word, uint32_t *group);
uint32_t group_of(const char *word); /* ends the program at an unknown one */
const char *group_name(uint32_t group); /* or its number; stays until the next but three */
size_t names_each(void (*visit)(uint32_t group, const char *name, void *context), void *context);

/* The tree of groups. */
struct node {
	uint32_t group;
	const char *name;
	size_t line;
	size_t parent;    /* plus one; 0 has none */
	size_t children, devices;
	uint32_t encoded;
};
struct device {
	size_t node;
	const char *name;
	size_t line;
};
struct tree {
	char *text; /* names lie in it */
	struct node *nodes;
	size_t count, capacity;
	struct device *devices;
	size_t device_count, device_capacity;
};
/* Takes the text over, also where it is wrong.  With `unknown` names without numbers are taken. */
bool tree_parse(char *text, bool unknown, struct tree *tree, struct wrong *why);
void tree_load(struct tree *tree, bool unknown);
void tree_free(struct tree *tree);
/* The groups of a subtree that can have devices, its leaves; with `all` the inner ones too. */
struct group_set {
	uint32_t *each; /* sorted */
	size_t count, capacity;
};
void tree_groups(const struct tree *tree, uint32_t group, bool all, struct group_set *found);
bool group_in(const struct group_set *set, uint32_t group);
/* Whether a device's node is the group, or below it. */
bool tree_below(const struct tree *tree, size_t node, uint32_t group);

/* Links, as the kernel tells them. */
struct link {
	uint32_t index; /* a table's key */
	uint32_t group, flags, mtu, queue, lower, master;
	bool foreign;   /* what it is stacked on is in another namespace */
	unsigned char hardware_len, hardware[32];
	char name[IFNAMSIZ], kind[16];
};
#define LINK_KIND(l) ((l)->kind[0] ? (l)->kind : "-")
bool link_read(const struct nlmsghdr *message, struct link *link);
int links_open(void);
bool is_short(int error); /* whether the kernel says that it lacks memory */
/* A new socket, after a pause, in place of one whose answers were lost. */
void links_reopen(int fd);
/* All links by their index; what changed while it was read is read again, and so is all of it
 * where the kernel was short of memory for some moments. */
void links_dump(int fd, struct table *links);
/* The keys of a table in order, to be freed. */
uint32_t *links_order(const struct table *links);
struct link *link_called(const struct table *links, const char *name);

/* A request about a link, or about a group (index 0). */
struct request {
	struct nlmsghdr head;
	union {
		struct ifinfomsg link;
		char room[256];
	} body;
};
void link_request(struct request *r, uint32_t index);

/* What is to be changed of one link: what it was, and what it is to be. */
enum what { CHANGE_MTU, CHANGE_QUEUE, CHANGE_FLAGS, CHANGE_GROUP, CHANGE_HARDWARE, CHANGE_ADDRESS };
struct change {
	uint32_t index;
	char name[IFNAMSIZ];
	enum what what;
	uint32_t before, after, mask;         /* of numbers; of flags those in the mask */
	unsigned char family, prefix, len;    /* of addresses: one that is added */
	unsigned char old[32], new[32];
};
struct changes {
	struct change *each;
	size_t count, capacity;
};
void changes_add(struct changes *c, const struct link *link, struct change change);
/* Adds to a request what makes the change, or undoes it; not for CHANGE_ADDRESS. */
void change_put(struct request *r, const struct change *c, bool forward);
void address_request(struct request *r, const struct change *c, bool forward);

/* Messages one behind the other, and the links or groups that they are about. */
struct messages {
	char *data;
	size_t len, capacity, count, about_capacity;
	struct about {
		uint32_t index, group;
		size_t at;
	} *about;
};
void messages_add(struct messages *m, const struct request *r, uint32_t index, uint32_t group);
void messages_print(const struct messages *m, const struct table *links);

/*
 * Sends them, as the options say: not at all, or all or nothing by way of the journal.
 * `groups` are the groups that requests without an index select, of whose members `changes`
 * tells the states.  Returns the exit status.
 */
int carry_out(int fd, struct messages *m, const struct changes *changes,
	      const struct group_set *groups, const struct table *links);

/* Which network a file is of: its namespace, in this boot. */
void this_place(char *text, size_t room);

/* The journal's text, and back; the text is changed. */
bool journal_parse(char *text, struct changes *changes, char *space, size_t room,
		   struct wrong *why);

/* Rules of inheritance. */
struct rule {
	bool any_base, has_base, same;
	uint32_t base, join;
	const char *kinds, *name; /* kinds: separated by commas; a pattern */
	size_t line;
};
struct rules {
	char *text;
	struct rule *each;
	size_t count, capacity;
};
bool rules_parse(char *text, struct rules *rules, struct wrong *why);
bool glob_fits(const char *pattern, const char *text);
bool one_of(const char *list, const char *word); /* a list with commas */

uint64_t now_ms(void);

/* Lets signals end a loop: they come in `wait_for` alone, so that none comes just before it. */
extern volatile sig_atomic_t told_to_end;
struct pollfd;
void end_at(const int *signals, size_t count);
void wait_for(struct pollfd *sockets, size_t count, int ms);

/* A socket that hears of links, with the room that the kernel gives it. */
int listen_links(int room);

#endif
