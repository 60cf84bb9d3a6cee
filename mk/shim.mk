# SPDX-License-Identifier: Apache-2.0
#
# Unit tests of the shim's core. They link its objects directly, without the exported symbols: the
# test's own calls must stay libc's.

SHIM_TESTS    := $(patsubst tests/unit/%.c,$(B)/tests/%,$(sort $(wildcard tests/unit/test_shim_*.c)))
SHIM_TEST_OBJ := $(patsubst %.c,$(B)/pic/%.o,shim/core/fdtab.c shim/core/lock.c shim/core/slot.c shim/flow/iov.c)

.PHONY: check-shim
check-shim: $(SHIM_TESTS) ## test the shim's core
	@for t in $(SHIM_TESTS); do $$t || exit 1; done

$(SHIM_TESTS): $(B)/tests/%: $(B)/exe/tests/unit/%.o $(SHIM_TEST_OBJ)
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $^ $(shell pkg-config --libs check) -lpthread

-include $(SHIM_TESTS:$(B)/tests/%=$(B)/exe/tests/unit/%.d)
