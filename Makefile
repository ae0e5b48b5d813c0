# Postern: build, run, test. `make help` lists the targets.
#
# Every layer of src/LAYERS becomes one archive; a test or fuzz target links the archives that its
# layer may use and nothing else, so the layering is linked as well as checked.

ifeq ($(origin CC),default)
CC       := gcc
endif
BUILD    ?= build/release
PORT     ?= 8080
APP      ?= demo
DIR      ?= tests/vectors
JOBS     ?= $(shell nproc)
# runs leave nothing in the source tree
export PYTHONDONTWRITEBYTECODE := 1

VERSION  := 0.1.0
IS_CLANG := $(findstring clang,$(shell $(CC) --version 2>/dev/null | head -n 1))

WARN   := -Wall -Wextra -Werror -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
          -Wconversion -Wcast-qual -Wvla -Wformat=2 -Wundef -Wimplicit-fallthrough -Wswitch-enum
HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection -fcf-protection=full \
          -fno-delete-null-pointer-checks -fno-strict-overflow
ifeq ($(IS_CLANG),)
HARDEN := $(HARDEN:-D_FORTIFY_SOURCE=2=-D_FORTIFY_SOURCE=3)
WARN   += -Wno-error=maybe-uninitialized
# Calls across modules inline in the product: 5 % of a request. Objects are fat, so that tests link without waiting for it.
LTO    := -flto=auto -ffat-lto-objects
endif
HARDLD := -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,nodlopen
ifneq ($(and $(filter x86_64%,$(shell $(CC) -dumpmachine)),$(if $(IS_CLANG),,gcc)),)
# Or else structures are cleared and copied by `rep stos` and `rep movs`, 15 to 60 ns each: a dozen in a request.
STRUCTS := -mmemset-strategy=vector_loop:256:noalign,libcall:-1:noalign -mmemcpy-strategy=vector_loop:256:noalign,libcall:-1:noalign
endif
# Neither frame pointers nor stubs for calls into libraries: 2 % of a request. Sanitizers want the former.
CODE   := -fno-plt $(STRUCTS)
# make pgo: gcc lays the code of a request out as a training run went through it; what was not run is compiled as without.
# With that knowledge -O3 inlines where it pays: 8 % less of a worker's own time for a check than -O2 (1.59 -> 1.46 us).
ifeq ($(BUILD),build/pgo)
PROFILE ?= use
OPT     ?= -O3
endif
OPT     ?= -O2
PROFILE_gen := -fprofile-generate -fprofile-update=atomic -fprofile-dir=$(CURDIR)/build/pgo/profile
PROFILE_use := -fprofile-use -fprofile-dir=$(CURDIR)/build/pgo/profile -fprofile-partial-training -Wno-missing-profile
CODE   += $(PROFILE_$(PROFILE))
SAN    ?=
ifneq ($(SAN),)
CODE   := -fno-omit-frame-pointer
HARDEN :=
LTO    :=
HARDLD := -pie
endif
PQ_DIR   := $(shell pg_config --includedir 2>/dev/null || echo /usr/include/postgresql)
CPPFLAGS += -Iinclude -isystem $(PQ_DIR) -D_GNU_SOURCE -DPST_VERSION='"$(VERSION)"'
CFLAGS   += -std=c17 -g $(OPT) $(WARN) $(HARDEN) $(CODE) $(SAN) -fPIE -pthread -MMD -MP
LDFLAGS  += $(HARDLD) $(SAN) -pthread
LIBS     := -levent_core -levent_extra -levent_pthreads -lcurl -ljansson -lsqlite3 -lpq -lyaml -lhiredis -lssl -lcrypto

LAYERS := $(shell awk -F: '!/^\#/ && NF {print $$1}' src/LAYERS)
SRC    := $(wildcard src/*/*.c) $(wildcard src/*/*.S)
LIBDIR := $(BUILD)/lib

# closure_<layer>: the layer and all it rests on, topmost first (the link order)
$(foreach l,$(shell awk -F: -f tests/lint/closure.awk src/LAYERS),$(eval closure_$(subst =, := ,$(subst /, ,$(l)))))
archives = $(foreach l,$(closure_$(1)),$(LIBDIR)/libpst_$(l).a)

UNIT  := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/*/test_*.c))
SUITE := $(patsubst tests/suites/%.c,$(BUILD)/suites/%,$(wildcard tests/suites/*/suite_*.c))
MICRO := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/micro/*/bench_*.c))
TOOLS := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/tools/*.c))
FAULTS := $(addprefix $(BUILD)/faults/,malloc_fail.so clock_stop.so socket_fail.so storm)
FUZZ  := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(wildcard tests/fuzz/*/fuzz_*.c))

.PHONY: all help deps run test check model interop vectors vectors-sync asan tsan lint layers fuzz fuzz-short \
        freshness soak pgo bench measured cover fmt clean install
.SECONDARY:
.DELETE_ON_ERROR:

all: $(BUILD)/postern

help:
	@echo "make deps       the Debian packages that a build needs"
	@echo "make            build $(BUILD)/postern"
	@echo "make run        Postern in front of a demo app (APP=demo|mlflow|mage, PORT=8080)"
	@echo "make test       everything that Debian packages allow"
	@echo "make model      the models of tests/model alone, a line for each variant"
	@echo "make interop    the outside world: MLflow and Mage AI from PyPI"
	@echo "make vectors    the vector suites (DIR=tests/vectors)"
	@echo "make vectors-sync  the case files anew from where they come from (VECTORS_FROM=DIR)"
	@echo "make freshness  every fault, the nemesis, how soon a revocation is felt; build/freshness/results.json"
	@echo "make soak       all faults at random (MINUTES=120, SEED=...)"
	@echo "make pgo        build/pgo/postern, laid out by a training run: 5 % less CPU (make install BUILD=build/pgo)"
	@echo "make bench      the comparisons, of that build; results in build/bench/results.json"
	@echo "make install    program, policies, README.md (PREFIX=/usr/local, DESTDIR=)"
	@echo "make asan tsan lint layers fuzz-short cover fmt clean"

deps:
	@tests/setup/packages.sh build

$(BUILD)/postern: $(foreach l,$(closure_app),$(LIBDIR)/libpst_$(l).a)
	@echo "  ld $@"; $(CC) $(CFLAGS) $(LTO) $(LDFLAGS) -Wl,--whole-archive $(LIBDIR)/libpst_app.a -Wl,--no-whole-archive \
	    $(filter-out %/libpst_app.a,$^) $(LIBS) -o $@

define layer_rules
$(LIBDIR)/libpst_$(1).a: $$(patsubst src/%,$(BUILD)/obj/%.o,$$(basename $$(filter src/$(1)/%,$$(SRC))))
	@mkdir -p $$(@D)
	@rm -f $$@
	@ar rcs $$@ $$^
endef
$(foreach l,$(LAYERS),$(eval $(call layer_rules,$(l))))

$(BUILD)/obj/%.o: src/%.c Makefile
	@mkdir -p $(@D)
	@echo "  cc $<"; $(CC) $(CPPFLAGS) $(CFLAGS) $(LTO) -c $< -o $@
$(BUILD)/obj/%.o: src/%.S Makefile
	@mkdir -p $(@D)
	@echo "  as $<"; $(CC) $(CPPFLAGS) -fcf-protection=full -c $< -o $@

$(BUILD)/obj/store/migrations.o: $(wildcard src/store/migrations/*.sql)
$(BUILD)/obj/app/embed.o: $(wildcard policies/*/*.yaml)

# A unit test names the functions it wraps in a line `/* wrap: calloc malloc */`.
.SECONDEXPANSION:
$(BUILD)/unit/%: tests/unit/%.c $$(call archives,$$(firstword $$(subst /, ,$$*)))
	@mkdir -p $(@D)
	@echo "  ld $@"; $(CC) $(CPPFLAGS) -Itests/unit $(CFLAGS) -fno-lto $(LDFLAGS) $< $(filter %.a,$^) \
	    $(addprefix -Wl$(comma)--wrap=,$(shell sed -n 's,^/\* wrap: \(.*\) \*/$$,\1,p' $<)) -lcmocka $(LIBS) -o $@
comma := ,
$(BUILD)/suites/%: tests/suites/%.c $$(call archives,$$(firstword $$(subst /, ,$$*)))
	@mkdir -p $(@D)
	@echo "  ld $@"; $(CC) $(CPPFLAGS) -Itests/suites $(CFLAGS) -fno-lto $(LDFLAGS) $< $(filter %.a,$^) $(LIBS) -o $@
$(BUILD)/bench/micro/%: bench/micro/%.c $$(call archives,$$(firstword $$(subst /, ,$$*)))
	@mkdir -p $(@D)
	@echo "  ld $@"; $(CC) $(CPPFLAGS) $(CFLAGS) $(LTO) $(LDFLAGS) $< $(filter %.a,$^) $(LIBS) -o $@
$(BUILD)/bench/tools/%: bench/tools/%.c
	@mkdir -p $(@D)
	@echo "  ld $@"; $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $< -o $@
# Preloaded into the program under test, or its clients: no sanitizer of their own.
$(BUILD)/faults/%.so: tests/faults/%.c
	@mkdir -p $(@D)
	@echo "  ld $@"; $(CC) -std=c17 -D_GNU_SOURCE -O1 $(WARN) -fno-builtin -fPIC -shared $< -o $@
$(BUILD)/faults/%: tests/faults/%.c bench/tools/tool.h
	@mkdir -p $(@D)
	@echo "  ld $@"; $(CC) -std=c17 -D_GNU_SOURCE -O2 $(WARN) -Ibench/tools $< -o $@

run: ; @tests/setup/packages.sh build run-$(APP) && $(MAKE) -s -j$(JOBS) all && exec python3 tests/run/run.py --app $(APP) --port $(PORT) --build $(BUILD)

test: ; @tests/setup/packages.sh build test && $(MAKE) -s -j$(JOBS) check
check: all layers $(UNIT) $(SUITE) $(TOOLS) $(FAULTS)
	@$(CC) $(CPPFLAGS) $(filter-out -MMD -MP,$(CFLAGS)) -fsyntax-only bench/micro/*/*.c # which only `make bench` links
	@python3 tests/run_all.py --build $(BUILD)
model: ; @tests/setup/packages.sh build test && python3 tests/model/run.py --verbose
vectors: ; @tests/setup/packages.sh build test && $(MAKE) -s -j$(JOBS) all $(SUITE) && python3 tests/run_vectors.py --build $(BUILD) --dir "$(DIR)"
vectors-sync:
	@python3 tests/vectors_sync.py
interop: ; @tests/setup/packages.sh build test interop && $(MAKE) -s -j$(JOBS) all && python3 tests/interop/run.py --build $(BUILD)

asan:
	@$(MAKE) test BUILD=build/asan OPT=-O1 SAN="-fsanitize=address,undefined -fno-sanitize-recover=all"
tsan:
	@$(MAKE) test BUILD=build/tsan OPT=-O1 SAN="-fsanitize=thread"

layers:
	@tests/lint/check_layers.sh
lint: layers
	@tests/setup/packages.sh build lint
	@tests/lint/lint.sh

fuzz: $(FUZZ)
build/fuzz/%: tests/fuzz/%.c $(wildcard src/*/*.c include/postern/*/*.h)
	@mkdir -p $(@D)
	@echo "  fuzz $@"; clang -std=c17 -g -O1 $(CPPFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -pthread \
	    $< $(filter-out src/app/main.c src/app/cli_%,$(foreach l,$(closure_$(firstword $(subst /, ,$*))),$(wildcard src/$(l)/*.c) \
	    $(wildcard src/$(l)/*.S))) $(LIBS) -o $@
fuzz-short:
	@tests/setup/packages.sh build lint && $(MAKE) -s -j$(JOBS) fuzz && tests/fuzz/run.sh $(or $(SECONDS_EACH),60)

freshness:
	@tests/setup/packages.sh build test && $(MAKE) -s -j$(JOBS) all $(TOOLS) $(FAULTS) && python3 tests/faults/freshness.py --build $(BUILD)
soak:
	@tests/setup/packages.sh build test && $(MAKE) -s -j$(JOBS) all && \
	    python3 tests/faults/nemesis.py --build $(BUILD) --minutes $(or $(MINUTES),120) $(if $(SEED),--seed $(SEED))

build/pgo/trained: $(SRC) $(wildcard src/*/*.h include/postern/*/*.h bench/tools/*) bench/train.py Makefile
	@rm -rf build/pgo
	@$(MAKE) -s -j$(JOBS) BUILD=build/pgo PROFILE=gen all $(TOOLS:$(BUILD)/%=build/pgo/%)
	@python3 bench/train.py --build build/pgo
	@rm -rf build/pgo/obj build/pgo/lib build/pgo/bench build/pgo/postern
	@touch $@
pgo:
	@tests/setup/packages.sh build bench && $(MAKE) -s build/pgo/trained && $(MAKE) -s -j$(JOBS) BUILD=build/pgo all

bench: pgo
	@tests/setup/packages.sh test && $(MAKE) -s BUILD=build/pgo measured
measured: all $(MICRO) $(TOOLS)
	@python3 bench/run.py --build $(BUILD)

cover:
	@tests/setup/packages.sh build test lint && $(MAKE) test BUILD=build/cover OPT=-O0 SAN="--coverage" && \
	    lcov -q -c -d build/cover -o build/cover/all.info && lcov -q -e build/cover/all.info '*/src/*' -o build/cover/src.info && \
	    lcov --summary build/cover/src.info

fmt:
	clang-format -i $(wildcard src/*/*.c include/postern/*/*.h tests/*/*/*.c tests/unit/*.h bench/*/*.c bench/*/*/*.c tests/faults/*.c)

PREFIX ?= /usr/local
install: all
	install -D -m 0755 $(BUILD)/postern $(DESTDIR)$(PREFIX)/bin/postern
	install -D -m 0644 README.md $(DESTDIR)$(PREFIX)/share/doc/postern/README.md
	cd policies && find . -name '*.yaml' -exec install -D -m 0644 {} $(DESTDIR)$(PREFIX)/share/postern/policies/{} \;

clean:
	rm -rf build

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
