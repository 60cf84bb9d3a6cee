# SPDX-License-Identifier: Apache-2.0
#
# Measurements, as ratios of bare and meshed in one run; see bench/run.

.PHONY: bench bench-programs
$(B)/bench/plainfd: bench/plainfd.c
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) -std=gnu11 -O2 -Wall -Wextra -Werror $< -o $@

bench-programs: $(B)/bench/plainfd

bench: ## what the mesh costs: throughput, memory, start-up, calls on other descriptors
	@scripts/deps bench
	@$(MAKE) --no-print-directory all bench-programs
	@BUILD=$(B) bench/run $(NAMES)
