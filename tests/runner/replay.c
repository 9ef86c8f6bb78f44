/*
 * tests/runner/replay.c - runs a fuzz target over files, without libFuzzer.
 * Threads: one.
 * Missing: nothing known.
 *
 * replay_NAME FILE|DIRECTORY...: every regular file is one input. The name of
 * the input in work is printed when the process dies in it; an input that
 * takes longer than LIMIT_S counts as a hang, because guest input must never
 * cause unbounded work.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIMIT_S = 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static char current[4096];	/* input in work; read by the handlers */
static unsigned inputs;

static void say(const char *what)
{
	(void)!write(2, what, strlen(what));
	(void)!write(2, current, strlen(current));
	(void)!write(2, "\n", 1);
}

static void on_hang(int sig)
{
	say("replay: hang in ");
	_exit(1);
}

static void on_crash(int sig)
{
	say("replay: crash in ");
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Sanitizers end the process by exit, not by a signal. */
static void on_exit_inside_input(void)
{
	if (current[0])
		say("replay: ended in ");
}

static int run_file(const char *path, off_t size)
{
	uint8_t *data = malloc(size ? (size_t)size : 1);
	FILE *f = fopen(path, "rb");
	int ok = data && f && fread(data, 1, size, f) == (size_t)size;

	if (f)
		fclose(f);
	if (ok) {
		snprintf(current, sizeof(current), "%s", path);
		alarm(LIMIT_S);
		LLVMFuzzerTestOneInput(data, size);
		alarm(0);
		current[0] = '\0';
		inputs++;
	} else {
		fprintf(stderr, "replay: cannot read %s\n", path);
	}
	free(data);
	return ok ? 0 : -1;
}

static int run_path(const char *path)
{
	char sub[4096];
	struct dirent *de;
	struct stat st;
	int r = 0;
	DIR *d;

	if (stat(path, &st) < 0) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return -1;
	}
	if (!S_ISDIR(st.st_mode))
		return run_file(path, st.st_size);
	d = opendir(path);
	if (!d) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return -1;
	}
	while ((de = readdir(d))) {
		if (de->d_name[0] == '.')
			continue;
		snprintf(sub, sizeof(sub), "%s/%s", path, de->d_name);
		if (run_path(sub) < 0)
			r = -1;
	}
	closedir(d);
	return r;
}

int main(int argc, char **argv)
{
	int i, r = 0;

	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	atexit(on_exit_inside_input);
	signal(SIGALRM, on_hang);
	signal(SIGABRT, on_crash);
	for (i = 1; i < argc; i++)
		if (run_path(argv[i]) < 0)
			r = 1;
	printf("%u inputs\n", inputs);
	return r;
}
