// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Parts of every reproducer.  A line with an at sign begins a part and names those that it needs;
 * hil/report/reproducer puts together what a cell asks for, and writes the macros before it.
 */

/*@ base */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define MIB ((size_t)1 << 20)
#define HUGE (2 * MIB)
#define PRESENT (1ULL << 63)
#define FRAME ((1ULL << 55) - 1)
#define UP(number, unit) (((number) + (unit)-1) / (unit) * (unit))

enum { FINE, DEFECT, CANNOT_TELL };

static const char *node = NODE; /* argv[1] */
static char *address; /* what is handed to the driver, as it is */
static size_t length;
static const char *view; /* where the process reaches it now */
static int defects;
static int __attribute__((unused)) lost; /* the process has given the pages up */

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vprintf(format, list);
	va_end(list);
	putchar('\n');
	fflush(stdout);
}

/* What is seen is not what must be. */
#define defect(...) (defects++, printf("DEFECT: "), say(__VA_ARGS__))
/* This machine can't show it. */
#define cannot(...) (printf("CANNOT TELL: "), say(__VA_ARGS__), exit(CANNOT_TELL))

static size_t pages_of(const void *start, size_t size)
{
	return size ? ((uintptr_t)start % PAGE + size + PAGE - 1) / PAGE : 0;
}

/* The pin counters of the whole machine: be alone on it. */
struct pins {
	long acquired, released, live;
};

static int counted = 1;

static struct pins pins(void)
{
	struct pins found = { -1, -1, 0 };
	char line[256];
	int refresh = open("/proc/sys/vm/stat_refresh", O_WRONLY | O_CLOEXEC);
	FILE *file;

	/* Folds every CPU's share in; EINVAL where another counter is below zero comes after that. */
	if (refresh >= 0) {
		if (write(refresh, "1\n", 2) < 0)
			errno = 0;
		close(refresh);
	}
	file = fopen("/proc/vmstat", "re");
	while (file && fgets(line, sizeof(line), file)) {
		sscanf(line, "nr_foll_pin_acquired %ld", &found.acquired);
		sscanf(line, "nr_foll_pin_released %ld", &found.released);
	}
	if (file)
		fclose(file);
	counted = found.acquired >= 0 && found.released >= 0;
	found.live = found.acquired - found.released;
	return found;
}

static struct pins since(struct pins before)
{
	struct pins now = pins();

	now.acquired -= before.acquired;
	now.released -= before.released;
	now.live -= before.live;
	return now;
}

/* ZONE_MOVABLE by frame numbers; the nodes that have it, and one that has not. */
static struct {
	unsigned long start, end;
	int node;
} movable[64];
static int movables, plain_node = -1;

static void read_zones(void)
{
	unsigned long number, spanned = 0;
	int of = -1, is_movable = 0, nodes[64] = { 0 };
	char line[256], name[32];
	FILE *file = fopen("/proc/zoneinfo", "re");

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Node %d, zone %31s", &of, name) == 2) {
			is_movable = !strcmp(name, "Movable");
		} else if (sscanf(line, " spanned %lu", &number) == 1) {
			spanned = number;
		} else if (sscanf(line, " start_pfn: %lu", &number) == 1 && of >= 0 && of < 64) {
			nodes[of] |= is_movable ? 2 : 1;
			if (is_movable && spanned && movables < 64) {
				movable[movables].start = number;
				movable[movables].end = number + spanned;
				movable[movables++].node = of;
			}
		}
	}
	if (file)
		fclose(file);
	for (of = 63; of >= 0; of--)
		if (nodes[of] == 1)
			plain_node = of;
}

static void prefer(int wanted)
{
	unsigned long mask = wanted >= 0 ? 1UL << wanted : 0;

	/* MPOL_PREFERRED; MPOL_DEFAULT */
	if (syscall(SYS_set_mempolicy, wanted >= 0 ? 1 : 0, wanted >= 0 ? &mask : NULL, 64))
		cannot("set_mempolicy: %s", strerror(errno));
}

/* The frames of the buffer at one moment. */
struct look {
	size_t pages, present, movable;
	uint64_t *frames; /* 0: not present */
};

static struct look look(const char *when, const char *start)
{
	struct look found = { .pages = pages_of(start, length) };
	uint64_t first = (uintptr_t)start / PAGE;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), hidden = 0;

	found.frames = calloc(found.pages + 1, sizeof(*found.frames));
	if (!found.frames || fd < 0)
		cannot("/proc/self/pagemap: %s", strerror(errno));
	if (pread(fd, found.frames, found.pages * 8, (off_t)(first * 8)) < 0)
		errno = 0; /* beyond the address space: nothing is there */
	close(fd);
	for (size_t i = 0; i < found.pages; i++) {
		uint64_t word = found.frames[i];

		found.frames[i] = word & PRESENT ? word & FRAME : 0;
		hidden |= word & PRESENT && !found.frames[i];
		found.present += !!(word & PRESENT);
		for (int zone = 0; zone < movables; zone++)
			if (found.frames[i] >= movable[zone].start && found.frames[i] < movable[zone].end)
				found.movable += !!found.frames[i];
	}
	if (hidden)
		cannot("pagemap shows no frame numbers: run this as root");
	say("%s: %zu of %zu pages present, %zu in ZONE_MOVABLE, first frame %#lx, last %#lx", when,
	    found.present, found.pages, found.movable, (unsigned long)found.frames[0],
	    (unsigned long)found.frames[found.pages ? found.pages - 1 : 0]);
	return found;
}

static size_t moved(struct look one, struct look other)
{
	size_t count = 0;

	for (size_t i = 0; i < one.pages; i++)
		count += one.frames[i] && other.frames[i] && one.frames[i] != other.frames[i];
	return count;
}

/* What the kernel says meanwhile. */
static int kmsg = -1;

static void listen_to_kernel(void)
{
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg >= 0)
		lseek(kmsg, 0, SEEK_END);
}

static long taint(void)
{
	long word = 0;
	FILE *file = fopen("/proc/sys/kernel/tainted", "re");

	if (file && fscanf(file, "%ld", &word) != 1)
		word = 0;
	if (file)
		fclose(file);
	return word;
}

static void what_kernel_said(void)
{
	static const char *const bad[] = { "WARNING:", "BUG:", "Oops", "Bad page", "possible circular",
					   "general protection", "refcount_t:", "blocked for more" };
	char record[8192], *text;
	int warned = 0;
	ssize_t size;

	while (kmsg >= 0 && ((size = read(kmsg, record, sizeof(record) - 1)) > 0 || errno == EPIPE)) {
		if (size <= 0)
			continue;
		record[size] = 0;
		text = strchr(record, ';');
		if (!text)
			continue;
		text[strcspn(text, "\n")] = 0;
		say("kernel:%s", text + 1);
		for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
			warned |= !!strstr(text, bad[i]);
	}
	if (warned)
		defect("the kernel warned, expected it to say nothing");
}

/* The machine is put back as it was. */
static struct {
	char path[128], text[64];
} kept[8];
static int keeps;

static void put_back(void)
{
	while (keeps-- > 0) {
		int fd = open(kept[keeps].path, O_WRONLY | O_CLOEXEC);

		if (fd >= 0 && write(fd, kept[keeps].text, strlen(kept[keeps].text)) < 0)
			say("%s: could not be put back", kept[keeps].path);
		if (fd >= 0)
			close(fd);
	}
	keeps = 0;
}

/*@ place */
/* Memory in a place of its own: no neighbour is merged with it or guards it. */
static char *place(size_t size, int protection, int flags, int fd, off_t offset)
{
	static uintptr_t next = 0x1000000000UL;
	char *found;

	for (int attempt = 0; attempt < 16; attempt++) {
		found = mmap((void *)next, size, protection, flags | MAP_FIXED_NOREPLACE, fd, offset);
		next += UP(size, 1024 * MIB) + 1024 * MIB;
		if (found != MAP_FAILED)
			return found;
		if (errno != EEXIST)
			break;
	}
	cannot("mmap of %zu bytes: %s", size, strerror(errno));
	return NULL;
}

/*@ fill */
/* Byte i is i mod 251: no two of 251 neighbouring pages are alike. */
static void fill(char *start, size_t size)
{
	for (size_t i = 0; i < size; i++)
		start[i] = (char)(i % 251);
}

/*@ single: place */
/* Anonymous memory in single pages, not touched. */
static char *single(size_t size)
{
	char *found = place(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	madvise(found, size, MADV_NOHUGEPAGE); /* EINVAL where the kernel has no huge pages */
	return found;
}

/*@ switch */
/* Write a switch of sysfs until this program ends. */
static void set_switch(const char *path, const char *word)
{
	char text[128] = "", *start, *end;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		cannot("%s: %s: this kernel has no such memory", path, strerror(errno));
	if (read(fd, text, sizeof(text) - 1) <= 0)
		cannot("%s: %s", path, strerror(errno));
	start = strchr(text, '['); /* "always [madvise] never" */
	end = start ? strchr(start, ']') : NULL;
	if (end)
		*end = 0;
	snprintf(kept[keeps].path, sizeof(kept[0].path), "%s", path);
	snprintf(kept[keeps].text, sizeof(kept[0].text), "%.60s", end ? start + 1 : text);
	if (strcmp(kept[keeps].text, word)) {
		if (keeps < 7)
			keeps++;
		if (write(fd, word, strlen(word)) < 0)
			cannot("%s: %s can't be written: %s", path, word, strerror(errno));
	}
	close(fd);
}

/*@ read-number */
static long read_number(const char *path)
{
	long number = -1;
	FILE *file = fopen(path, "re");

	if (file && fscanf(file, "%ld", &number) != 1)
		number = -1;
	if (file)
		fclose(file);
	return number;
}

/*@ smaps */
/* Kilobytes of one field of the mapping that starts at or around an address. */
static size_t smaps(const char *start, const char *field)
{
	unsigned long from, to, value = 0;
	int inside = 0;
	char line[512];
	FILE *file = fopen("/proc/self/smaps", "re");

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from <= (uintptr_t)start && (uintptr_t)start < to;
		else if (inside && !strncmp(line, field, strlen(field)) && line[strlen(field)] == ':')
			value = strtoul(line + strlen(field) + 1, NULL, 10);
	}
	if (file)
		fclose(file);
	return value;
}

/*@ on-movable */
/* What is touched from here on comes from the node that has ZONE_MOVABLE. */
static void on_movable(void)
{
	if (!movables)
		cannot("no ZONE_MOVABLE: boot with kernelcore=1G, and numa=fake=2 for a node of its own");
	prefer(movable[movables - 1].node);
}

static void must_be_movable(void)
{
	struct look made = look("made", address);

	prefer(plain_node);
	if (made.movable != made.pages)
		cannot("only %zu of %zu pages came from ZONE_MOVABLE", made.movable, made.pages);
}

/*@ memfd */
static int memory_file(size_t size, unsigned int flags)
{
	int fd = memfd_create("reproducer", MFD_CLOEXEC | flags);

	if (fd < 0 || ftruncate(fd, (off_t)size))
		cannot("memfd_create: %s", strerror(errno));
	return fd;
}

/*@ shared: place */
/* A shared mapping of single pages, not touched; fd -1 is anonymous. */
static char *shared(size_t size, int fd)
{
	char *found = place(size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);

	madvise(found, size, MADV_NOHUGEPAGE);
	return found;
}

/*@ file: fill */
#include <mntent.h>
#include <sys/vfs.h>

static const char *directory; /* argv[2] */

/* A nameless file on a file system of the kind that is wanted, wherever it is mounted. */
static int file_on(const char *kind, int dax, size_t size)
{
	FILE *mounts = directory ? NULL : setmntent("/proc/self/mounts", "re");
	struct mntent *mount;
	char *data;
	int fd = -1;

	if (directory)
		fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	while (mounts && fd < 0 && (mount = getmntent(mounts))) {
		int is_dax = hasmntopt(mount, "dax") && !hasmntopt(mount, "dax=never");

		if (!strcmp(mount->mnt_type, kind) && is_dax == dax && !hasmntopt(mount, MNTOPT_RO))
			fd = open(mount->mnt_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	}
	if (mounts)
		endmntent(mounts);
	if (fd < 0)
		cannot("no %s%s that can be written: mount one, or name a directory as second argument",
		       kind, dax ? " with -o dax" : "");
	data = malloc(size);
	if (!data)
		cannot("no memory");
	fill(data, size);
	/* Page by page: a write makes no folio larger than itself. */
	for (size_t at = 0; at < size; at += PAGE)
		if (pwrite(fd, data + at, PAGE, (off_t)at) != (ssize_t)PAGE)
			cannot("writing the file: %s", strerror(errno));
	free(data);
	return fd;
}
