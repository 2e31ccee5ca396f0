// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What one cell of the suite does, in C: the yardstick of bench/measure.py.
 *
 *   cell NODE TURNS        as a cell does: in a child, with all the evidence and a frame compared
 *   cell NODE TURNS bare   open, request, map, touch, queue, release, close; no child, no evidence
 *
 * Prints the microseconds of each turn on one line.  The memory is anonymous, touched, in single
 * pages, as long as the driver's frame, which is as small as the suite sets it (hil/pinners/vivid.py
 * SIZE) and a picture that stands still.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define MAX_PAGES 4096
#define MAX_BYTES (62 * PAGE) /* of the pattern, less its start */
#define WIDTH 320
#define HEIGHT 180
/* drivers/media/test-drivers/vivid/vivid-ctrls.c */
#define VIVID_CID_TEST_PATTERN (0x00f00000 | 0xf000)
#define VIVID_CID_OSD_TEXT_MODE (0x00f00000 | 0xf001)
#define COLOR_SQUARES 4
#define NO_TEXT 2
#define PRESENT (1ULL << 63)
#define FRAME ((1ULL << 55) - 1)

static int refresh, vmstat, meminfo, gigantic, kpageflags, kmsg, tainted;
static unsigned char pattern[251 * 1024];

struct pins {
	long acquired, released;
};

struct look { /* of one moment */
	struct pins pins;
	uint64_t first, last, flags_first, flags_last;
	unsigned present;
	long huge_total, huge_free, huge_rsvd, huge_surp, gigantic_free;
};

struct evidence { /* shared with the parent */
	volatile int stage;
	int error, moved, wrong;
	long held;
	uint32_t length;
	uint64_t all, any;
	struct look before, during, after;
	unsigned pictures;
	unsigned char picture[MAX_BYTES]; /* the first frame: what the others are compared with */
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int must_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		die(path);
	return fd;
}

static long value(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtol(at + strlen(key), NULL, 10) : -1;
}

static struct pins pins(void)
{
	char text[8192];
	ssize_t length;

	if (pwrite(refresh, "1\n", 2, 0) < 0 && errno != EINVAL)
		die("stat_refresh");
	length = pread(vmstat, text, 4096, 0);
	if (length < 0)
		die("vmstat");
	text[length] = 0;
	return (struct pins){ value(text, "nr_foll_pin_acquired "), value(text, "nr_foll_pin_released ") };
}

static uint64_t flags_of(uint64_t entry)
{
	uint64_t word = 0;

	if (entry & PRESENT && pread(kpageflags, &word, 8, (off_t)(entry & FRAME) * 8) != 8)
		die("kpageflags");
	return word;
}

static void pagemap(int fd, uintptr_t address, unsigned pages, uint64_t *words)
{
	if (pread(fd, words, pages * 8, (off_t)(address / PAGE * 8)) != (ssize_t)pages * 8)
		die("pagemap");
}

static void look(struct look *at, const uint64_t *words, unsigned pages)
{
	char text[4097];
	ssize_t length = pread(meminfo, text, 4096, 0);

	if (length < 0)
		die("meminfo");
	text[length] = 0;
	at->first = words[0];
	at->last = words[pages - 1];
	at->flags_first = flags_of(at->first);
	at->flags_last = flags_of(at->last);
	at->present = 0;
	for (unsigned i = 0; i < pages; i++)
		at->present += words[i] >> 63;
	at->huge_total = value(text, "HugePages_Total:");
	at->huge_free = value(text, "HugePages_Free:");
	at->huge_rsvd = value(text, "HugePages_Rsvd:");
	at->huge_surp = value(text, "HugePages_Surp:");
	length = gigantic < 0 ? 0 : pread(gigantic, text, 32, 0);
	text[length > 0 ? length : 0] = 0;
	at->gigantic_free = strtol(text, NULL, 10);
}

/* The flags of every page, as the proof of a memory class reads them. */
static void prove(const uint64_t *words, unsigned pages, struct evidence *found)
{
	static uint64_t flags[MAX_PAGES];

	found->all = ~0ULL;
	for (unsigned i = 0; i < pages;) {
		unsigned run = 1;

		while (i + run < pages && (words[i + run] & FRAME) == (words[i] & FRAME) + run)
			run++;
		if (pread(kpageflags, flags, run * 8, (off_t)(words[i] & FRAME) * 8) != (ssize_t)run * 8)
			die("kpageflags");
		for (unsigned k = 0; k < run; k++) {
			found->all &= flags[k];
			found->any |= flags[k];
		}
		i += run;
	}
}

static void control(int fd, uint32_t id, int value)
{
	struct v4l2_control it = { .id = id, .value = value };

	if (ioctl(fd, VIDIOC_S_CTRL, &it))
		die("S_CTRL");
}

static void size(int fd, uint32_t width, uint32_t height)
{
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE };

	if (ioctl(fd, VIDIOC_G_FMT, &format))
		die("G_FMT");
	format.fmt.pix.width = width;
	format.fmt.pix.height = height;
	format.fmt.pix.bytesperline = format.fmt.pix.sizeimage = 0;
	if (ioctl(fd, VIDIOC_S_FMT, &format))
		die("S_FMT");
}

static void still(int fd)
{
	int input;

	control(fd, VIVID_CID_TEST_PATTERN, COLOR_SQUARES);
	control(fd, VIVID_CID_OSD_TEXT_MODE, NO_TEXT);
	if (ioctl(fd, VIDIOC_G_INPUT, &input))
		die("G_INPUT");
}

static uint32_t request(int fd)
{
	struct v4l2_requestbuffers want = { .count = 1, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
					    .memory = V4L2_MEMORY_USERPTR };
	struct v4l2_buffer buffer = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE };

	if (ioctl(fd, VIDIOC_REQBUFS, &want) || ioctl(fd, VIDIOC_QUERYBUF, &buffer))
		die("REQBUFS, QUERYBUF");
	return buffer.length;
}

static unsigned char *touched(uint32_t length)
{
	unsigned char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	madvise(memory, length, MADV_NOHUGEPAGE);
	for (uint32_t done = 0; done < length; done += sizeof(pattern))
		memcpy(memory + done, pattern,
		       length - done < sizeof(pattern) ? length - done : sizeof(pattern));
	return memory;
}

static int queue(int fd, unsigned char *memory, uint32_t length)
{
	struct v4l2_buffer buffer = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
				      .memory = V4L2_MEMORY_USERPTR,
				      .m.userptr = (unsigned long)memory, .length = length };

	return ioctl(fd, VIDIOC_QBUF, &buffer) ? errno : 0;
}

static void stop(int fd)
{
	int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;

	if (ioctl(fd, VIDIOC_STREAMOFF, &type))
		die("STREAMOFF");
}

/* One frame through the buffer, which is pinned already; the bytes that are not the picture's. */
static int frame(int fd, unsigned char *memory, uint32_t length, struct evidence *found)
{
	static unsigned char before[MAX_BYTES], arrived[MAX_BYTES];
	struct v4l2_buffer buffer = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
				      .memory = V4L2_MEMORY_USERPTR };
	struct pollfd poll_ = { .fd = fd, .events = POLLIN };
	int type = V4L2_BUF_TYPE_VIDEO_CAPTURE, wrong = 0;

	memcpy(memory, pattern + 83, length);
	memcpy(before, memory, length);
	stop(fd);
	if (queue(fd, memory, length) || ioctl(fd, VIDIOC_STREAMON, &type))
		die("QBUF, STREAMON");
	if (poll(&poll_, 1, 2000) != 1 || ioctl(fd, VIDIOC_DQBUF, &buffer))
		die("DQBUF");
	stop(fd);
	memcpy(arrived, memory, length);
	if (!found->pictures++)
		memcpy(found->picture, arrived, length);
	for (uint32_t i = 0; i < length; i++)
		wrong += arrived[i] != found->picture[i];
	return memcmp(before, arrived, length) ? wrong : -1;
}

static void release(int fd)
{
	struct v4l2_requestbuffers none = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
					    .memory = V4L2_MEMORY_USERPTR };

	if (ioctl(fd, VIDIOC_REQBUFS, &none))
		die("REQBUFS 0");
	size(fd, 640, 360);
	close(fd);
}

static void bare(const char *node)
{
	int fd = must_open(node, O_RDWR | O_NONBLOCK);
	uint32_t length;
	unsigned char *memory;

	still(fd);
	size(fd, WIDTH, HEIGHT);
	length = request(fd);
	memory = touched(length);
	if (queue(fd, memory, length))
		die("QBUF");
	release(fd);
	munmap(memory, length);
}

static void child(const char *node, struct evidence *found)
{
	static uint64_t words[MAX_PAGES], later[MAX_PAGES];
	int map = must_open("/proc/self/pagemap", O_RDONLY);
	int fd = must_open(node, O_RDWR | O_NONBLOCK);
	uint32_t length;
	unsigned pages;
	unsigned char *memory;
	uintptr_t address;

	still(fd);
	size(fd, WIDTH, HEIGHT);
	length = request(fd);
	pages = (length + PAGE - 1) / PAGE;
	if (length > MAX_BYTES || pages > MAX_PAGES)
		exit(2);
	found->length = length;
	found->stage = 1;
	memory = touched(length);
	address = (uintptr_t)memory;
	pagemap(map, address, pages, words);
	prove(words, pages, found);
	found->stage = 2;
	found->before.pins = pins();
	pagemap(map, address, pages, words);
	look(&found->before, words, pages);
	found->stage = 3;
	found->error = queue(fd, memory, length);
	found->stage = 4;
	found->during.pins = pins();
	pagemap(map, address, pages, words);
	look(&found->during, words, pages);
	found->wrong = frame(fd, memory, length, found);
	{
		struct pins now = pins();

		found->held = now.acquired - found->before.pins.acquired -
			      (now.released - found->before.pins.released);
	}
	pagemap(map, address, pages, later);
	for (unsigned i = 0; i < pages; i++)
		found->moved += (words[i] ^ later[i]) & FRAME ? 1 : 0;
	found->stage = 5;
	release(fd);
	found->stage = 6;
	found->after.pins = pins();
	pagemap(map, address, pages, words);
	look(&found->after, words, pages);
	munmap(memory, length);
	found->stage = 7;
}

static void turn(const char *node, struct evidence *found)
{
	char text[8192];
	int status, watch;
	struct rusage usage;
	struct pollfd poll_;
	pid_t pid;

	memset(found, 0, offsetof(struct evidence, pictures));
	lseek(kmsg, 0, SEEK_END);
	if (pread(tainted, text, 32, 0) < 0)
		die("tainted");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setpgid(0, 0);
		child(node, found);
		_exit(0);
	}
	setpgid(pid, pid);
	watch = syscall(SYS_pidfd_open, pid, 0);
	poll_ = (struct pollfd){ .fd = watch, .events = POLLIN };
	if (poll(&poll_, 1, 10000) != 1)
		die("the child");
	kill(-pid, SIGKILL);
	close(watch);
	if (wait4(pid, &status, 0, &usage) != pid || status)
		die("wait4");
	while (read(kmsg, text, sizeof(text)) > 0)
		;
	if (pread(tainted, text, 32, 0) < 0)
		die("tainted");
	if (found->stage != 7 || found->error || found->wrong || !(found->all >> 12 & 1) ||
	    found->held != found->during.present ||
	    found->during.pins.acquired - found->before.pins.acquired < found->during.present ||
	    found->after.pins.acquired - found->before.pins.acquired !=
		    found->after.pins.released - found->before.pins.released) {
		fprintf(stderr, "stage %d, error %d, pages %u, held %ld, wrong bytes %d\n",
			found->stage, found->error, found->during.present, found->held,
			found->wrong);
		exit(1);
	}
}

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1e6 + at.tv_nsec / 1e3;
}

int main(int count, char **words)
{
	struct evidence *found;
	int turns, alone;

	if (count < 3) {
		fprintf(stderr, "usage: cell NODE TURNS [bare]\n");
		return 2;
	}
	turns = atoi(words[2]);
	alone = count > 3 && !strcmp(words[3], "bare");
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = i % 251;
	found = mmap(NULL, sizeof(*found), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	refresh = must_open("/proc/sys/vm/stat_refresh", O_WRONLY);
	vmstat = must_open("/proc/vmstat", O_RDONLY);
	meminfo = must_open("/proc/meminfo", O_RDONLY);
	gigantic = open("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", O_RDONLY);
	kpageflags = must_open("/proc/kpageflags", O_RDONLY);
	kmsg = must_open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	tainted = must_open("/proc/sys/kernel/tainted", O_RDONLY);
	for (int i = 0; i < turns; i++) {
		double began = now();

		if (alone)
			bare(words[1]);
		else
			turn(words[1], found);
		printf("%.0f ", now() - began);
	}
	printf("\n");
	return 0;
}
