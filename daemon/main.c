/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neapd: the verbs. `run` is for people, `collect` for `run` itself.
 *
 * Nothing but words and dispatch here; what is wrong with a command line is said in
 * one line and ends with status 2.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/collect.h"
#include "daemon/config.h"
#include "daemon/launch.h"
#include "daemon/log.h"
#include "daemon/program.h"
#include "schema/base/version.h"

static const char usage[] =
    "usage: neapd run [options] [--] CMD [ARG...]\n"
    "       neapd --help | --version\n"
    "\n"
    "Records every allocation of CMD and its children in one SQLite file.\n"
    "\n"
    "  -o, --output FILE   where to (default: CMD's name.PID.neap, here)\n"
    "  -f, --force         replace FILE if it is an older recording\n"
    "      --interval N    a sample of the allocations, one in every N bytes on "
    "average\n"
    "                      (such as 512K), or exact: every allocation (default)\n"
    "      --policy P      when the collector cannot keep up: block (wait for it, for\n"
    "                      a bounded time; default), drop (count what is lost) or\n"
    "                      adapt (sample more seldom; with --interval N)\n"
    "      --dormant       begin switched off; `neap switch FILE on` starts it\n"
    "      --max-size N    keep N bytes of single events, such as 500M (default 2G);\n"
    "                      the oldest go first, totals stay; 0 keeps none\n"
    "      --allocator A   who serves malloc: app (the program's own; default) or "
    "neap\n"
    "                      (Neaptide's, which tells of its own growth and of "
    "mistakes)\n"
    "      --heap-check N  how hard that looks for mistakes, 0 to 3 (default 0)\n"
    "      --heap-error E  what it does after one: continue or abort\n"
    "      --follow        record children too (default)\n"
    "      --no-follow     record CMD's own process alone\n"
    "  -q, --quiet         no words but errors\n"
    "\n"
    "Each option has an environment variable of its name, such as NEAP_OUTPUT or\n"
    "NEAP_POLICY; the command line wins.\n"
    "\n"
    "Exit status: CMD's own, 128+N if signal N ended it; 125 if neap failed, 126 if\n"
    "CMD cannot be run, 127 if it is not found, 2 for a wrong command line.\n";

static int say(FILE *to, const char *text)
{
    if (fputs(text, to) < 0 || fflush(to))
        return NEAP_STATUS_FAILED;
    return to == stdout ? 0 : NEAP_STATUS_USAGE;
}

static int run(char **words)
{
    struct neap_config config;
    struct neap_error *error;

    /* Only where an option may stand: `neapd run -- ls --help` is for ls. */
    if (words[0] && (strcmp(words[0], "--help") == 0 || strcmp(words[0], "-h") == 0))
        return say(stdout, usage);
    error = neap_config_parse(words, &config);
    if (error) {
        neap_log_error(error);
        return NEAP_STATUS_USAGE;
    }
    return neap_launch_run(&config);
}

static int collect(char **words)
{
    struct neap_collect_config config;

    if (!neap_collect_parse(words, &config)) {
        neap_log("neapd collect is started by neapd run; use that");
        return NEAP_STATUS_USAGE;
    }
    return neap_collect_run(&config);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    if (strcmp(verb, "run") == 0)
        return run(argv + 2);
    if (strcmp(verb, NEAP_COLLECT_VERB) == 0)
        return collect(argv + 2);
    if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0)
        return say(stdout, usage);
    if (strcmp(verb, "--version") == 0)
        return say(stdout, "neapd " NEAP_VERSION "\n");
    if (*verb)
        neap_log("no such command: '%s'; see neapd --help", verb);
    else
        say(stderr, usage);
    return NEAP_STATUS_USAGE;
}
