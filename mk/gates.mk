# SPDX-License-Identifier: Apache-2.0
#
# What libmesh costs where it can be counted, held against bounds (tests/gates/run).

$(B)/gates/%: tests/gates/%.c
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror $< -o $@

.PHONY: check-gates
check-gates: all $(B)/gates/work ## instructions, system calls, allocations, bytes and memory against their bounds
	@BUILD=$(B) tests/gates/run $(NAMES)
