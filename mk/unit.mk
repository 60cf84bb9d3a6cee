# SPDX-License-Identifier: Apache-2.0
#
# Unit tests: each tests/unit/test_*.c (but for the engine and the shim, see tls.mk, shim.mk) is one Check program, linked
# with the daemon's objects but main. SAN=address,undefined works here too.

UNIT_SRC := $(filter-out tests/unit/test_tls_% tests/unit/test_shim_%,$(sort $(wildcard tests/unit/test_*.c)))
UNIT_BIN  = $(patsubst tests/unit/%.c,$(B)/unit/%,$(UNIT_SRC))
UNIT_OBJ  = $(filter-out $(B)/exe/meshd/main.o,$(MESHD_OBJ))
UNIT_LIBS = -levent_core -levent_extra -levent_openssl -lconfig -ljansson -lcares -lresolv -lssl -lcrypto -lpthread
UNIT_CHECK = $(shell pkg-config --libs check)

.PHONY: check-unit
check-unit: $$(UNIT_BIN) ## run the unit tests
	@fail=0; for t in $(UNIT_BIN); do \
	  echo "  UNIT    $$(basename $$t)"; CK_VERBOSITY=normal $$t || fail=1; done; exit $$fail

$(B)/unit/%: $(B)/exe/tests/unit/%.o $$(UNIT_OBJ)
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $^ $(UNIT_LIBS) $(UNIT_CHECK)

# The choice of endpoints is the shim's, the snapshots that it reads are the daemon's.
PICK_OBJ := $(patsubst %.c,$(B)/pic/%.o,$(filter-out shim/route/route.c shim/route/names.c shim/route/egress.c,$(wildcard shim/route/*.c)) \
             shim/core/live.c shim/core/rand.c shim/real.c shim/filter.c)
$(B)/unit/test_pick $(B)/unit/test_snap_cache $(B)/unit/test_hash $(B)/unit/test_hash_pick $(B)/unit/test_registry_hash $(B)/unit/test_route $(B)/unit/test_registry_outlier: $(PICK_OBJ)
$(B)/unit/test_route: $(B)/pic/shim/route/egress.o
$(B)/unit/test_outlier: $(patsubst %,$(B)/pic/shim/%.o,core/live core/lock core/rand core/stat core/edge flow/breaker real filter)
# What a page says of ended connections the shim writes and the daemon reads.
$(B)/unit/test_observe: $(B)/pic/shim/core/edge.o
$(B)/unit/test_limits: $(B)/pic/shim/route/fault.o

$(B)/fakeshim: $(B)/exe/tests/tools/fakeshim.o $(B)/exe/common/snap.o $(B)/exe/common/snap_cache.o $(B)/exe/common/snap_choice.o $(B)/exe/common/err.o \
               $(B)/exe/common/addr.o $(B)/exe/common/limits.o
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $^

.SECONDARY: $(patsubst %.c,$(B)/exe/%.o,$(UNIT_SRC))

-include $(patsubst %.c,$(B)/exe/%.d,$(UNIT_SRC)) $(B)/exe/tests/tools/fakeshim.d
