// SPDX-License-Identifier: GPL-2.0-or-later
/* What every reproducer does, in this order. */

/*@ main: base */
static const struct {
	int number;
	const char *name;
} refusals[] = { REFUSALS { 0, NULL } };

static const char *named(int error)
{
	for (int i = 0; refusals[i].name; i++)
		if (refusals[i].number == error)
			return refusals[i].name;
	return strerror(error);
}

static void judge_answer(int error)
{
	int as_expected = EXPECT_ACCEPT && !error;

	for (int i = 0; refusals[i].name; i++)
		as_expected |= !EXPECT_ACCEPT && refusals[i].number == error;
	say("%s: %s", CALL_NAME, error ? named(error) : "accepted");
	if (!as_expected)
		defect("%s %s, expected it to be %s", CALL_NAME, error ? "was refused" : "accepted it",
		       EXPECTED);
}

static void judge_held(int error, struct pins held)
{
	long pages = EXPECT_PINNED ? (long)pages_of(address, length) : 0;
	long others = (long)companions, least = BY_FOLIO && pages ? 1 : pages;

	if (!counted) {
		say("this kernel counts no pins: they are not judged");
		return;
	}
	say("pins while held: %ld acquired, %ld released, %ld live", held.acquired, held.released,
	    held.live);
	if (error && held.live)
		defect("%ld pins are held after the refusal, expected 0", held.live);
	if (!error && (held.live < least + others || held.live > pages + others))
		defect("%ld pins while held, expected %ld", held.live, pages + others);
}

#ifdef SETTLE
/* The driver must not keep pages that the pointer does not lead to any more. */
static void pin_again(void)
{
	struct look one = look("while pinned", address), other;
	struct pins base;
	int error;
	size_t new_frames;

	stop();
	settle();
	base = pins();
	error = pin();
	other = look("pinned again", address);
	if (other.pages < one.pages)
		one.pages = other.pages;
	new_frames = moved(one, other);
	say("the same pointer again: %s, %ld pins acquired, %zu frames have changed",
	    error ? strerror(error) : "accepted", since(base).acquired, new_frames);
	if (!error && new_frames && !since(base).acquired)
		defect("the second pin took no pages: the device keeps the old ones");
}
#endif

static int reproduce(void)
{
	struct look before, pinned;
	struct pins base, left;
	struct timespec wait = { .tv_nsec = 10000000 };
	long tainted = taint();
	size_t need;
	int error;

	atexit(put_back);
	read_zones();
	if (plain_node >= 0 && movables)
		prefer(plain_node); /* else it hangs on the CPU whether pages are movable */
	listen_to_kernel();
	need = open_device();
	make(need);
	before = look("before", address);
	base = pins();
	error = pin();
	pinned = look("while pinned", address);
	judge_answer(error);
	judge_held(error, since(base));
	if (!error) {
		if (pinned.movable && MUST_LEAVE_MOVABLE)
			defect("%zu of %zu pages are pinned in ZONE_MOVABLE, expected them to be migrated "
			       "out first", pinned.movable, pinned.pages);
		view = address;
		during();
#ifdef STREAM
		stream();
#endif
#ifdef SETTLE
		pin_again();
#else
		if (!lost) {
			struct look after = look("before release", view);

			if (moved(pinned, after))
				defect("%zu of %zu pages changed their frame while pinned",
				       moved(pinned, after), pinned.pages);
			free(after.frames);
		}
#endif
	}
	release();
	for (int i = 0; since(base).live && i < 20; i++)
		nanosleep(&wait, NULL);
	left = since(base);
	say("pins after release: %ld acquired, %ld released, %ld live", left.acquired, left.released,
	    left.live);
	if (counted && left.live)
		defect("%ld pins are still held at the end, expected 0", left.live);
	what_kernel_said();
	if (taint() & ~tainted & 1L << 9)
		say("the kernel is tainted by a warning (W) since");
	free(before.frames);
	free(pinned.frames);
#ifdef BLIND
	if (!defects)
		cannot("%s", BLIND);
#endif
#ifdef WARNING_SEEN
	if (!defects && (tainted & 1L << 9 || kmsg < 0))
		cannot("the kernel warned before, and may do so once a boot: reboot and run this first");
#endif
	say("%s", defects ? "it shows the defect" : "all is as it must be");
	return defects ? DEFECT : FINE;
}

/* A call that does not come back is a defect, and this program does. */
int main(int count, char **words)
{
	struct timespec wait = { .tv_nsec = 50000000 };
	char path[64], line[256];
	pid_t child;
	FILE *stack;
	int status = 0;

	if (count > 1)
		node = words[1];
#ifdef FILE_SYSTEM
	if (count > 2)
		directory = words[2];
#endif
	say("%s", CELL);
	say("expected: %s", EXPECTED);
	say("seen on %s: %s", SEEN_ON, SEEN);
	child = fork();
	if (child < 0)
		cannot("fork: %s", strerror(errno));
	if (child == 0) {
		setpgid(0, 0);
		exit(reproduce());
	}
	for (int i = 0; i < DEADLINE * 20; i++) {
		if (waitpid(child, &status, WNOHANG) == child) {
			kill(-child, SIGKILL); /* those that it has forked */
			return WIFEXITED(status) ? WEXITSTATUS(status) :
			       (say("DEFECT: it died of signal %d", WTERMSIG(status)), DEFECT);
		}
		nanosleep(&wait, NULL);
	}
	say("DEFECT: it did not come back within %d s; its stack in the kernel:", DEADLINE);
	snprintf(path, sizeof(path), "/proc/%d/stack", child);
	stack = fopen(path, "re");
	while (stack && fgets(line, sizeof(line), stack))
		printf("  %s", line);
	kill(-child, SIGKILL);
	return DEFECT;
}
