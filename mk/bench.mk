# SPDX-License-Identifier: Apache-2.0
#
# Measurements, as ratios of bare and meshed in one run; see bench/run.

# Small programs of one file; meshload and calibrate have a folder each.
BENCH_SMALL  := $(patsubst bench/%.c,$(B)/bench/%,bench/plainfd.c bench/holder.c)
MESHLOAD_OBJ := $(patsubst %.c,$(B)/exe/%.o,$(sort $(wildcard bench/meshload/*.c)))
CALIBRATE_OBJ := $(patsubst %.c,$(B)/exe/%.o,$(sort $(wildcard bench/calibrate/*.c)))

# From nothing in a quarter of an hour, so all processors build.
BENCH_JOBS = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: bench bench-full bench-programs bench-calibrate
$(BENCH_SMALL): $(B)/bench/%: bench/%.c
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror $< -o $@

# The library of the system: what programs with TLS of their own use.
$(B)/bench/meshload: $(MESHLOAD_OBJ)
$(B)/bench/calibrate: $(CALIBRATE_OBJ)
$(B)/bench/meshload $(B)/bench/calibrate:
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $^ -lssl -lcrypto -lm -lpthread

$(B)/unit/test_meshload: $(filter-out %/main.o,$(MESHLOAD_OBJ))
$(B)/unit/test_meshload: UNIT_LIBS += -lm

bench-programs: $(BENCH_SMALL) $(B)/bench/meshload $(B)/bench/calibrate $(B)/bench_tls $(B)/bench_choice $(B)/bench_count \
                $(B)/gates/work

bench: ## the mesh beside bare, the programs' own TLS and proxies: the rows that matter, or NAMES="S1 S6"
	@scripts/deps bench
	@$(MAKE) --no-print-directory $(BENCH_JOBS) all bench-programs
	@BUILD=$(B) bench/run $(NAMES)

bench-full: ## the same with every row, at least ten pairs and long windows
	@scripts/deps bench
	@$(MAKE) --no-print-directory $(BENCH_JOBS) all bench-programs
	@BUILD=$(B) bench/run --full $(NAMES)

.PHONY: check-bench
check-bench: ## what judges the measurements
	@tests/bench/test_lib.py

bench-calibrate: $(B)/bench/calibrate ## this machine's limits: system call, wake-up, TCP, ciphers, keys
	@$(B)/bench/calibrate

.PHONY: bench-choice bench-scale
bench-scale: all bench-programs ## what 10,000 endpoints and 1,000 processes cost a host
	@BUILD=$(B) bench/scale

bench-choice: $(B)/bench_choice ## what choosing one of 10,000 endpoints costs
	@$(B)/bench_choice

$(B)/bench_choice: $(B)/exe/bench/bench_choice.o $$(PICK_OBJ) $$(UNIT_OBJ)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $^ $(UNIT_LIBS)

$(B)/bench_count: $(B)/exe/bench/bench_count.o $$(SHIM_TEST_OBJ)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $^ -lpthread

-include $(B)/exe/bench/bench_choice.d $(B)/exe/bench/bench_count.d $(MESHLOAD_OBJ:.o=.d) $(CALIBRATE_OBJ:.o=.d)
