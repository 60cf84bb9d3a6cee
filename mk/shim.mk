# SPDX-License-Identifier: Apache-2.0
#
# Unit tests of the shim's core. They link its objects directly, without the exported symbols: the
# test's own calls must stay libc's.

SHIM_TESTS    := $(patsubst tests/unit/%.c,$(B)/tests/%,$(sort $(wildcard tests/unit/test_shim_*.c)))
SHIM_TEST_OBJ := $(patsubst %.c,$(B)/pic/%.o,$(sort $(wildcard shim/core/*.c)) shim/flow/iov.c shim/flow/audit.c shim/real.c shim/filter.c common/err.c common/flag.c)

# What receives and sends, with an engine of the test's own.
SHIM_TEST_FLOW := $(patsubst %.c,$(B)/pic/shim/flow/%.o,rx.c beside.c peek.c count.c mark.c tx.c audit.c shape.c sockopt.c)

.PHONY: check-shim
check-shim: $(SHIM_TESTS) ## test the shim's core
	@for t in $(SHIM_TESTS); do $$t || exit 1; done

$(SHIM_TESTS): $(B)/tests/%: $(B)/exe/tests/unit/%.o $(SHIM_TEST_OBJ)
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $^ $(shell pkg-config --libs check) -lpthread

$(B)/tests/test_shim_hostile: $(SHIM_TEST_FLOW)
$(B)/tests/test_shim_ktls: $(SHIM_TEST_FLOW) $(B)/pic/shim/flow/ktls_data.o

-include $(SHIM_TESTS:$(B)/tests/%=$(B)/exe/tests/unit/%.d)
