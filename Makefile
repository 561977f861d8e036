# SPDX-License-Identifier: Apache-2.0
# One Makefile for the whole tree; everything made lies under build/.
#
#   make                      build; needs no network once the packages are there
#   make SANITIZE=address,undefined …   the same under build/asan (thread: build/tsan)
#   make V=1 …                show the commands
#
# Sources are found by wildcard: a new file needs no line here. A test in tests/unit or
# a program in tests/targets that wants more than its own source names it in its head:
#     /* Links: tests/unit/fake_symbolizer.c -Wl,--wrap=malloc */
#     /* Links: tests/targets/libearly.c */       linked as build/targets/libearly.so

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.SECONDEXPANSION:
MAKEFLAGS += --no-builtin-rules

B := build
ifdef SANITIZE
OUT := $(B)/$(if $(findstring thread,$(SANITIZE)),tsan,asan)
SANITIZER := -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer \
    $(if $(findstring thread,$(SANITIZE)),-Wno-tsan)
else
OUT := $(B)
endif
Q := $(if $(V),,@)
say = @printf '  %-5s %s\n' $(1) $(subst $(OUT)/,,$@)

# ---- packages ----

# What a goal needs of Debian's packages is installed before anything else is looked
# at. PACKAGES=say only names what is missing, PACKAGES=no does not even look.
PACKAGES ?= install
goals := $(or $(MAKECMDGOALS),all)
ifneq ($(filter-out help clean format,$(goals)),)
ifneq ($(PACKAGES),no)
job := $(if $(filter bench%,$(goals)),bench,$(if $(filter check test lint% fuzz% \
    units,$(goals)),check,build))
$(shell tools/packages.sh $(if $(filter say,$(PACKAGES)),-n) $(job) >&2)
ifneq ($(.SHELLSTATUS),0)
$(error packages are missing, see above (PACKAGES=no goes on without them))
endif
endif
endif

# ---- tools ----

CLANG ?= clang
PREFIX ?= /usr/local
DESTDIR ?=
# The Python that the extension is built for: the system's if it has headers.
ifndef PYTHON
PYTHON := $(shell for p in /usr/bin/python3 python3; do \
    $$p -c 'import os, sysconfig; exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
    2>/dev/null && { command -v $$p; break; }; done)
endif
PYTHON_INCLUDE = $(eval PYTHON_INCLUDE := $$(shell $(PYTHON) -c \
    'import sysconfig; print(sysconfig.get_path("include"))'))$(PYTHON_INCLUDE)
VENV := $(B)/venv
VENV_BENCH := $(B)/venv-bench
VERSION := $(shell sed -n 's/^.define NEAP_VERSION "\(.*\)"/\1/p' schema/base/version.h)

# ---- flags ----

WARNINGS := -Wall -Wextra -Wshadow -Wformat=2 -Wvla -Wundef -Wimplicit-fallthrough -Werror
CWARNINGS := $(WARNINGS) -Wstrict-prototypes -Wmissing-prototypes
OPT ?= -O2 -g
BASIC := -std=gnu11 -D_GNU_SOURCE -I. $(CWARNINGS) $(OPT) -pthread -MMD -MP

# Hosted code: daemon, query, schema. Position-independent, as the extension takes a
# part of it.
HOSTED := $(BASIC) -fPIC -fvisibility=hidden -fstack-protector-strong $(SANITIZER) \
    $(if $(SANITIZE),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2) $(CFLAGS)
# Code in the target, never sanitized: its TLS must be there without a call that may
# allocate, gcc may not turn our malloc into a call of itself, and no stack protector
# may abort the target from within.
HOOK := $(BASIC) -fPIC -fvisibility=hidden -ftls-model=initial-exec \
    $(addprefix -fno-builtin-,malloc calloc realloc free memalign posix_memalign \
    aligned_alloc valloc pvalloc reallocarray strdup) -fno-stack-protector \
    -fno-semantic-interposition -fasynchronous-unwind-tables $(CFLAGS)
EXT = $(HOSTED) -DPy_LIMITED_API=0x030b0000 -isystem $(PYTHON_INCLUDE)
# Programs whose allocations tests count: nothing may be folded, inlined or moved.
TARGET := -D_GNU_SOURCE -I. -Wall -Wextra -Werror -Wno-unused-result -O1 -g \
    -fno-builtin -fno-inline -fno-optimize-sibling-calls -pthread -MMD -MP

HOSTED_LIBS := -lsqlite3 -ldw -lelf -lzstd -lstdc++ -lm -pthread
EXT_LIBS := -lsqlite3 -lzstd -lm
# What any SQLite loads: calls go to the SQLite that loads it (loadable/api.h).
SQL := $(HOSTED) -include bindings/loadable/api.h

# ---- sources ----

schema_src := $(wildcard schema/base/*.c schema/store/*.c)
wire_src := $(wildcard schema/wire/*.c)
daemon_src := $(wildcard daemon/*.c daemon/*/*.c)
query_src := $(wildcard bindings/query/*.c)
hook_src := $(filter-out libhook/heap/preload.c,$(wildcard libhook/*.c libhook/*/*.c))
heap_src := $(wildcard libhook/heap/*.c)
ext_src := $(wildcard bindings/ext/*.c)
python_src := $(shell find bindings/neaptide -type f ! -name '*.pyc' 2>/dev/null)
unit_src := $(wildcard tests/unit/test_*.c)
fuzz_src := $(wildcard tests/fuzz/fuzz_*.c)
target_src := $(wildcard tests/targets/*.c tests/targets/*.cc)

hosted = $(patsubst %.c,$(OUT)/obj/hosted/%.o,$(1))
hook_o = $(patsubst %.c,$(B)/obj/hook/%.o,$(1))
schema_obj := $(call hosted,$(schema_src)) $(OUT)/obj/gen/sql.o
neapd_obj := $(schema_obj) $(call hosted,$(wire_src) $(daemon_src))
hook_obj := $(call hook_o,$(hook_src) $(wire_src))
heap_obj := $(call hook_o,$(heap_src))
query_obj := $(call hosted,$(query_src))
ext_obj := $(ext_src:%.c=$(B)/obj/ext/%.o)
sql_src := $(wildcard bindings/loadable/*.c)
sql_obj := $(patsubst %.c,$(B)/obj/sql/%.o,$(sql_src) bindings/query/event_table.c \
    bindings/query/events.c schema/store/chunk_read.c schema/base/error.c \
    schema/base/weigh.c)

neapd := $(if $(wildcard daemon/main.c),$(OUT)/bin/neapd)
hook := $(if $(wildcard libhook/libhook.map),$(if $(hook_src),$(OUT)/lib/libneap.so))
heap := $(if $(heap_src),$(B)/lib/libneapheap.so)
sql := $(if $(sql_src),$(B)/lib/libneapsql.so)
ext := $(if $(ext_src),$(B)/python/neaptide/_neap.abi3.so)
package := $(if $(python_src),$(B)/python/.made)
unit := $(unit_src:tests/unit/%.c=$(OUT)/tests/unit/%)
fuzzers := $(fuzz_src:tests/fuzz/%.c=$(B)/fuzz/%)
targets := $(patsubst tests/targets/%,$(B)/targets/%,$(addsuffix .so,$(basename \
    $(filter tests/targets/lib%,$(target_src)))) $(basename \
    $(filter-out tests/targets/lib%,$(target_src))))
heap_bench_src := $(wildcard tests/bench/heap/*.c tests/bench/heap/*.cc)
heap_bench := $(patsubst tests/bench/heap/%,$(B)/bench/heap/%,$(addsuffix .so,$(basename \
    $(filter tests/bench/heap/lib%,$(heap_bench_src)))) $(basename \
    $(filter-out tests/bench/heap/lib%,$(heap_bench_src))))

# What the heads of tests and targets ask for, as words "path=word".
links := $(if $(unit_src)$(target_src),$(shell awk 'FNR < 20 && /Links:/ { \
    sub(/.*Links: */, ""); sub(/ *\*\/.*/, ""); \
    for (i = 1; i <= NF; i++) print FILENAME "=" $$i }' \
    $(unit_src) $(target_src)))
asked = $(patsubst $(1)=%,%,$(filter $(1)=%,$(links)))
# A % stands for any name: a star behind a slash would begin a comment there.
asked_obj = $(patsubst %.c,$(OUT)/obj/hosted/%.o,$(wildcard $(subst %,*,$(filter %.c, \
    $(call asked,$(1))))))
asked_flags = $(filter-out %.c %.cc,$(call asked,$(1)))
# A program in tests/targets asks for a library there by the library's source.
asked_lib = $(patsubst tests/targets/%,$(B)/targets/%.so,$(basename \
    $(filter tests/targets/lib%,$(call asked,$(1)))))

# ---- what people ask for ----

.PHONY: all neapd hook heap sql ext package units targets fuzzers demo check test fuzz bench \
    bench-heap heap-programs lint lint-format lint-tidy lint-ruff lint-mypy lint-stub format venv install clean \
    help FORCE

all: neapd hook heap sql package ## build neap, neapd, the libraries and the Python package

# Sanitizers are for our C programs: the library in the target and the extension in
# Python would need theirs loaded first, so a sanitized tree has the plain ones.
neapd: $(neapd) ## build build/bin/neapd alone
hook: $(hook) ## build build/lib/libneap.so alone
heap: $(heap) ## build build/lib/libneapheap.so, the allocator alone
sql: $(sql) ## build build/lib/libneapsql.so alone
ext: $(ext) ## build the Python extension alone
ifdef SANITIZE
package: neapd hook $(if $(package),$(OUT)/bin/neap $(OUT)/python)
else
package: $(package) $(ext) $(if $(package),$(OUT)/bin/neap)
endif
units: $(unit) $(OUT)/tests/make_events
targets: $(targets)
fuzzers: $(fuzzers)
venv: $(VENV)/.made

demo: all ## record a program with a leak in it and show what is found
	@PYTHON='$(PYTHON)' CC='$(CC)' demo/run.sh

# Of the integration tests the ones that count: the rest takes minutes.
quick := tests/house tests/python $(wildcard $(patsubst %,tests/integration/test_%.py, \
    exact peak ends))

test: all units targets heap-programs venv ## the quick tests
	@$(PYTEST) -q -n auto -m 'not slow' $(quick)

check: all units targets heap-programs fuzzers venv ## every test: quick ones, sanitizers, fuzzers, lint
	@$(MAKE) --no-print-directory SANITIZE=address,undefined all units
	@$(MAKE) --no-print-directory SANITIZE=thread units
	@$(PYTEST) tests

fuzz: fuzzers venv ## run the fuzzers, FUZZ_SECONDS in all (30)
	@$(PYTEST) tests/house/test_fuzz.py

# The quick form leaves the page in docs alone.
bench_docs := $(if $(QUICK),$(B)/bench,docs)
bench: all $(B)/bench-ingest $(VENV_BENCH)/.made ## measure beside other tools; QUICK=1 takes minutes
	@mkdir -p $(B)/bench
	@$(VENV_BENCH)/bin/python tests/bench/bench.py $(if $(QUICK),--quick) \
	    --json $(B)/bench/results.json --markdown $(bench_docs)/benchmarks.md \
	    --plots $(bench_docs)

bench-heap: all heap-programs ## measure our allocator beside others; QUICK=1 takes minutes
	@mkdir -p $(B)/bench
	@$(PYTHON) tests/bench/heap.py $(if $(QUICK),--quick) \
	    --json $(B)/bench/heap.json --markdown $(bench_docs)/benchmarks-heap.md
heap-programs: $(heap_bench)

help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1\t\2/p' \
	    $(firstword $(MAKEFILE_LIST)) | expand -t 22

# ---- objects ----

# Changed flags rebuild: each zone's objects depend on a file that holds them.
define remember
$(1).flags: FORCE
	@mkdir -p $$(@D)
	@printf '%s\n' '$(subst ','\'',$(CC) $(2))' | cmp -s - $$@ || \
	    printf '%s\n' '$(subst ','\'',$(CC) $(2))' >$$@
endef
$(eval $(call remember,$(OUT)/obj/hosted,$(HOSTED)))
$(eval $(call remember,$(B)/obj/hook,$(HOOK)))
$(eval $(call remember,$(B)/obj/sql,$(SQL)))
$(eval $(call remember,$(B)/obj/ext,$(HOSTED) for $(PYTHON)))

$(OUT)/obj/hosted/%.o: %.c $(OUT)/obj/hosted.flags
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(HOSTED) -c $< -o $@

$(B)/obj/hook/%.o: %.c $(B)/obj/hook.flags
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(HOOK) -c $< -o $@

$(B)/obj/ext/%.o: %.c $(B)/obj/ext.flags
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(EXT) -c $< -o $@

$(B)/obj/sql/%.o: %.c $(B)/obj/sql.flags
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -fsanitize% -fno-sanitize%,$(SQL)) -c $< -o $@

$(B)/gen/sql.c: schema/store/embed_sql.py $(wildcard schema/sql/*.sql)
	$(call say,GEN)
	@mkdir -p $(@D)
	$(Q)$(PYTHON) $< $@ $(filter %.sql,$^)

$(OUT)/obj/gen/sql.o: $(B)/gen/sql.c $(OUT)/obj/hosted.flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(HOSTED) -c $< -o $@

# ---- programs and libraries ----

$(OUT)/bin/neapd: $(neapd_obj)
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZER) $(LDFLAGS) $^ $(HOSTED_LIBS) -o $@

$(OUT)/lib/libneap.so: $(hook_obj) libhook/libhook.map
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) -shared $(LDFLAGS) $(hook_obj) -Wl,--version-script=libhook/libhook.map \
	    -Wl,-soname,libneap.so -Wl,-z,now -Wl,-z,relro -Wl,--no-undefined \
	    -Wl,-z,nodelete -o $@

# The malloc family is neap_heap_* by other names: a jump from one to the other would
# cost a tenth of a malloc.
heap_names := $(foreach n,malloc free calloc realloc reallocarray posix_memalign \
    aligned_alloc memalign valloc pvalloc free_sized free_aligned_sized mallinfo \
    mallinfo2,$(n)=neap_heap_$(n)) malloc_usable_size=neap_heap_usable_size \
    malloc_info=neap_heap_info malloc_stats=neap_heap_stats \
    malloc_trim=neap_heap_trim mallopt=neap_heap_option \
    $(foreach n,_ZdlPv _ZdaPv _ZdlPvm _ZdaPvm,$(n)=neap_heap_free)
$(heap): $(heap_obj) libhook/heap/heap.map
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) -shared $(LDFLAGS) $(heap_obj) -Wl,--version-script=libhook/heap/heap.map \
	    -Wl,-soname,libneapheap.so -Wl,-z,now -Wl,-z,relro -Wl,--no-undefined \
	    -Wl,-z,nodelete -Wl,-z,initfirst $(heap_names:%=-Wl,--defsym=%) -o $@

$(B)/lib/libneapsql.so: $(sql_obj)
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) -shared $(LDFLAGS) $^ -Wl,-soname,libneapsql.so -Wl,-z,now -Wl,-z,relro \
	    -Wl,--no-undefined -lzstd -lm -o $@

$(B)/python/neaptide/_neap.abi3.so: $(ext_obj) $(query_obj) $(schema_obj)
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) -shared $(LDFLAGS) $^ -Wl,-z,now -Wl,-z,relro $(EXT_LIBS) -o $@

# The package is copied whole when a file of it is new, changed or gone.
$(B)/python/.files: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(python_src) | cmp -s - $@ || printf '%s\n' $(python_src) >$@

$(B)/python/.made: $(B)/python/.files $(python_src)
	@mkdir -p $(@D)/neaptide
	$(Q)find $(@D)/neaptide -mindepth 1 ! -name '_neap.abi3.so' -delete
	$(Q)cp -R bindings/neaptide/. $(@D)/neaptide/
	$(Q)find $(@D)/neaptide -name __pycache__ -prune -exec rm -rf {} +
	@touch $@

ifdef SANITIZE
$(OUT)/python:
	@mkdir -p $(@D)
	@ln -sfn ../python $@
endif

$(OUT)/bin/neap: Makefile
	@mkdir -p $(@D)
	@printf '%s\n' '#!/bin/sh' \
	    '# Runs the package beside this file with the Python it was built for. "neap run"' \
	    '# becomes neapd at once: Python would change the signals and the environment of' \
	    '# the program that is recorded. The caller may have any PATH, or none.' \
	    'here=$$(PATH=/usr/bin:/bin:$$PATH; readlink -f -- "$$0")' \
	    'here=$${here%/*}' \
	    'neapd=$${NEAP_NEAPD:-$$here/neapd}' \
	    'case "$$1 $$2" in' \
	    '"run -h" | "run --help") ;;' \
	    '"run "*) case $$neapd in */*) ;; *) neapd=./$$neapd ;; esac' \
	    '    [ -f "$$neapd" ] && [ -x "$$neapd" ] && exec "$$neapd" "$$@" ;;' \
	    'esac' \
	    "exec '$(PYTHON)' -I -c 'import sys; sys.path.insert(0, sys.argv.pop(1)); \
	from neaptide.cli import main; sys.exit(main())' \"\$$here/../python\" \"\$$@\"" >$@.new
	@chmod 755 $@.new && mv $@.new $@

# ---- tests ----

# The allocator as well, which knows nothing of the hook: sanitized where the tests are.
$(OUT)/libhosted.a: $(filter-out %/daemon/main.o,$(neapd_obj)) $(query_obj) \
    $(call hosted,$(filter-out %/preload.c,$(heap_src)))
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(OUT)/tests/unit/%: $(OUT)/obj/hosted/tests/unit/%.o \
    $$(call asked_obj,tests/unit/$$*.c) $(OUT)/libhosted.a
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZER) -rdynamic $(LDFLAGS) $^ $(call asked_flags,tests/unit/$*.c) \
	    -lcmocka $(HOSTED_LIBS) -o $@

# Puts events into recordings that tests make; no test itself.
$(OUT)/tests/make_events: $(OUT)/obj/hosted/tests/unit/make_events.o $(OUT)/libhosted.a
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZER) $(LDFLAGS) $^ $(HOSTED_LIBS) -o $@

$(B)/targets/lib%.so: tests/targets/lib%.c
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(TARGET) -MF $@.d -MT $@ -fPIC -shared $< -o $@ \
	    $(call asked_flags,$<) -ldl

$(B)/targets/lib%.so: tests/targets/lib%.cc
	$(call say,CXX)
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=gnu++17 $(TARGET) -MF $@.d -MT $@ -fPIC -shared $< -o $@ \
	    $(call asked_flags,$<) -ldl

$(B)/targets/%: tests/targets/%.c $$(call asked_lib,tests/targets/$$*.c)
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(TARGET) -MF $@.d -MT $@ $< -o $@ $(call asked_flags,$<) \
	    $(call asked_lib,$<) -Wl,-rpath,'$$ORIGIN' -ldl -lm

$(B)/targets/%: tests/targets/%.cc $$(call asked_lib,tests/targets/$$*.cc)
	$(call say,CXX)
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=gnu++17 $(TARGET) -MF $@.d -MT $@ $< -o $@ $(call asked_flags,$<) \
	    $(call asked_lib,$<) -Wl,-rpath,'$$ORIGIN' -ldl -lm

$(B)/bench-%: $(B)/obj/hosted/tests/bench/%.o $(B)/libhosted.a
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) $^ $(HOSTED_LIBS) -o $@

# Nothing of what they allocate may be folded away; else they are as programs are built.
HEAP_BENCH := -D_GNU_SOURCE -Wall -Wextra -Wshadow -Werror -O2 -g -fno-builtin-malloc \
    -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-free -pthread -MMD -MP
$(B)/bench/heap/lib%.so: tests/bench/heap/lib%.c
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(HEAP_BENCH) -fPIC -shared -MF $@.d -MT $@ $< -o $@

$(B)/bench/heap/%: tests/bench/heap/%.c
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(HEAP_BENCH) -MF $@.d -MT $@ $< -o $@

$(B)/bench/heap/%: tests/bench/heap/%.cc
	$(call say,CXX)
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=gnu++17 $(HEAP_BENCH) -MF $@.d -MT $@ $< -o $@

# Fuzzers hold the pure parts only: wire, base, the parsers of the daemon, and the
# reader of unwind tables.
fuzz_parts := libhook/cfi.c libhook/cfi_apply.c $(wire_src) $(wildcard schema/base/*.c) \
    $(filter-out daemon/main.c,$(daemon_src))
$(B)/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(BASIC) -fsanitize=fuzzer-no-link,address,undefined -c $< -o $@

$(B)/fuzz/libparts.a: $(fuzz_parts:%.c=$(B)/fuzz/obj/%.o) $(schema_src:%.c=$(B)/fuzz/obj/%.o) \
    $(B)/fuzz/obj/$(B)/gen/sql.o
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/fuzz/%: $(B)/fuzz/obj/tests/fuzz/%.o $(B)/fuzz/libparts.a
	$(call say,LD)
	$(Q)$(CLANG) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	    $^ $(HOSTED_LIBS) -o $@

# The Python that tests and lint run in. The wheels come from PyPI, versions pinned.
$(VENV)/.made: tests/requirements.txt
$(VENV_BENCH)/.made: tests/bench/requirements.txt
$(VENV)/.made $(VENV_BENCH)/.made:
	@echo '  VENV  $(@D)'
	$(Q)rm -rf $(@D)
	$(Q)$(PYTHON) -m venv $(@D)
	$(Q)$(@D)/bin/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@

PYTEST = PATH="$(CURDIR)/$(VENV)/bin:$$PATH" MAKEFLAGS= $(VENV)/bin/python -m pytest

# ---- lint ----

lint: lint-format lint-tidy lint-ruff lint-mypy lint-stub ## formatting, clang-tidy, types

c_rooms := schema daemon libhook bindings tests/unit tests/fuzz tests/targets tests/bench
format_src := $(shell find $(c_rooms) demo -name '*.[ch]' -o -name '*.cc' 2>/dev/null)
py_lint := bindings/neaptide schema tests demo setup.py

lint-format: venv
	@$(VENV)/bin/clang-format --dry-run -Werror $(format_src)

format: venv ## format C and Python as lint wants it
	@$(VENV)/bin/clang-format -i $(format_src)
	@$(VENV)/bin/ruff format -q $(wildcard $(py_lint))

# A file is looked at again when its object is, that is when it or a header changed.
# clang has to like it as well, so that both compilers build the tree.
tidy_hosted := $(schema_src) $(wire_src) $(daemon_src) $(query_src) $(unit_src) $(fuzz_src)
tidied := $(patsubst %,$(B)/tidy/%.ok,$(tidy_hosted) $(hook_src) $(ext_src) $(sql_src))
CLANG_HEADERS = $(eval CLANG_HEADERS := -isystem \
    $$(shell $(CLANG) -print-resource-dir)/include)$(CLANG_HEADERS)
define tidy
	@printf '  %-5s %s\n' TIDY $<
	@mkdir -p $(@D)
	$(Q)$(CLANG) -fsyntax-only $(filter-out -MMD -MP,$(1)) $<
	$(Q)$(VENV)/bin/clang-tidy --quiet $< -- $(filter-out -MMD -MP -W% -f%,$(1)) \
	    $(CLANG_HEADERS) >$@.log 2>&1 || { cat $@.log; exit 1; }
	@touch $@
endef

lint-tidy: $(tidied)

$(B)/tidy/libhook/%.ok: libhook/% $(B)/obj/hook/libhook/$$(basename $$*).o .clang-tidy | venv
	$(call tidy,$(HOOK))

$(B)/tidy/bindings/loadable/%.ok: bindings/loadable/% \
    $(B)/obj/sql/bindings/loadable/$$(basename $$*).o .clang-tidy | venv
	$(call tidy,$(SQL))

$(B)/tidy/bindings/ext/%.ok: bindings/ext/% $(B)/obj/ext/bindings/ext/$$(basename $$*).o \
    .clang-tidy | venv
	$(call tidy,$(EXT))

$(B)/tidy/%.ok: % $(B)/obj/hosted/$$(basename $$*).o .clang-tidy | venv
	$(call tidy,$(HOSTED))

lint-ruff: venv
	@$(VENV)/bin/ruff check -q $(wildcard $(py_lint))
	@$(VENV)/bin/ruff format -q --check $(wildcard $(py_lint))

lint-mypy: venv
	@$(VENV)/bin/mypy
	@$(VENV)/bin/mypy tests/house tests/fuzz tests/bench demo schema setup.py

lint-stub: venv ext package
	@MYPYPATH=$(B)/python PYTHONPATH=$(B)/python $(VENV)/bin/stubtest neaptide._neap

# ---- the rest ----

# bin/neap finds its real place through the symbolic link, neapd through /proc/self/exe.
install: all ## install under PREFIX (/usr/local); DESTDIR is honoured
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/neaptide/bin \
	    $(DESTDIR)$(PREFIX)/lib/neaptide/lib $(DESTDIR)$(PREFIX)/lib/neaptide/python
	install -m 755 $(B)/bin/neap $(B)/bin/neapd $(DESTDIR)$(PREFIX)/lib/neaptide/bin
	install -m 755 $(B)/lib/libneap.so $(B)/lib/libneapheap.so $(B)/lib/libneapsql.so \
	    $(DESTDIR)$(PREFIX)/lib/neaptide/lib
	cp -R $(B)/python/neaptide $(DESTDIR)$(PREFIX)/lib/neaptide/python
	find $(DESTDIR)$(PREFIX)/lib/neaptide -name __pycache__ -prune -exec rm -rf {} +
	ln -sf ../lib/neaptide/bin/neap ../lib/neaptide/bin/neapd $(DESTDIR)$(PREFIX)/bin
	for page in $(wildcard docs/man/*.[18]); do \
	    install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}; \
	done

clean: ## remove build/
	rm -rf $(B)

FORCE:

-include $(shell find $(B) -name '*.d' 2>/dev/null)
