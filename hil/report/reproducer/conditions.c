// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What happens while the memory is pinned.  Each part defines during(); where the process has given
 * its pages up there (LOST), or has them elsewhere (view), the frames are looked at accordingly.
 */

/*@ steady */
static void during(void)
{
}

/*@ start-page */
/* The pages that the buffer touches: where they start, and their bytes. */
static char *start_page(void)
{
	return (char *)((uintptr_t)address / PAGE * PAGE);
}

/*@ whole */
static size_t whole(void)
{
	return pages_of(address, length) * PAGE;
}

/*@ dontneed: start-page whole */
static void during(void)
{
	int failed = madvise(start_page(), whole(), MADV_DONTNEED);

	say("MADV_DONTNEED: %s", failed ? strerror(errno) : "done");
	lost = !failed && !IS_SHARED;
}

/*@ munmap: start-page whole */
static void during(void)
{
	say("munmap: %s", munmap(start_page(), whole()) ? strerror(errno) : "done");
	lost = 1;
}

/*@ mmap-over: start-page whole */
static void during(void)
{
	char *over = mmap(start_page(), whole(), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (over == MAP_FAILED)
		cannot("mmap: %s", strerror(errno));
	memset(over, 0, whole());
	lost = 1;
}

/*@ mremap: start-page whole */
static void during(void)
{
	char *target = mmap(NULL, whole() + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *moved_to;

	target = (char *)UP((uintptr_t)target, HUGE);
	moved_to = mremap(start_page(), whole(), whole(), MREMAP_MAYMOVE | MREMAP_FIXED, target);
	say("mremap: %s", moved_to == MAP_FAILED ? strerror(errno) : "done");
	if (moved_to != MAP_FAILED)
		view = moved_to + (address - start_page());
}

/*@ mprotect-cycle: start-page whole fill */
static void during(void)
{
	mprotect(start_page(), whole(), PROT_READ);
	mprotect(start_page(), whole(), PROT_READ | PROT_WRITE);
	fill(address, length);
	say("mprotect to read-only and back, then every page written");
}

/*@ mprotect-read-only: start-page whole */
static void during(void)
{
	say("mprotect: %s", mprotect(start_page(), whole(), PROT_READ) ? strerror(errno) : "done");
}

/*@ fork-child-writes */
static void during(void)
{
	pid_t child = fork();

	if (child == 0) {
		memset(address, 0x3c, length);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	say("a forked child has written its copy");
}

/*@ fork-parent-writes */
static pid_t twin;

static void during(void)
{
	twin = fork();
	if (twin == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	memset(address, 0x3c, length);
	say("forked, and the parent has written every page");
}

/*@ other-node */
static int other_node(void)
{
	int here = -1, found = -1;
	char path[96];

	syscall(SYS_get_mempolicy, &here, NULL, 0, address, 3); /* MPOL_F_NODE | MPOL_F_ADDR */
	for (int i = 63; i >= 0; i--) {
		int has_movable = 0;

		for (int zone = 0; zone < movables; zone++)
			has_movable |= movable[zone].node == i;
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", i);
		if (i != here && !access(path, F_OK) && (found < 0 || !has_movable))
			found = i;
	}
	if (found < 0)
		cannot("one NUMA node only: boot with numa=fake=2");
	return found;
}

/*@ move-pages: start-page other-node */
static void during(void)
{
	size_t count = pages_of(address, length), arrived = 0;
	void **pages = calloc(count, sizeof(*pages));
	int *nodes = calloc(count, sizeof(*nodes)), *status = calloc(count, sizeof(*status));
	int to = other_node();
	long result;

	for (size_t i = 0; pages && nodes && status && i < count; i++) {
		pages[i] = start_page() + i * PAGE;
		nodes[i] = to;
		status[i] = -4096;
	}
	result = syscall(SYS_move_pages, 0, count, pages, nodes, status, 2); /* MPOL_MF_MOVE */
	for (size_t i = 0; status && i < count; i++)
		arrived += status[i] == to;
	say("move_pages to node %d: %ld, %zu pages say that they are there", to, result, arrived);
	if (arrived)
		defect("move_pages says that %zu pinned pages are on the other node", arrived);
}

/*@ mbind-move: start-page whole other-node */
static void during(void)
{
	int to = other_node();
	unsigned long mask = 1UL << to;

	/* MPOL_BIND; MPOL_MF_STRICT | MPOL_MF_MOVE */
	if (syscall(SYS_mbind, start_page(), whole(), 2, &mask, 64, 3))
		say("mbind to node %d: %s", to, strerror(errno));
	else
		say("mbind to node %d: done", to);
}
