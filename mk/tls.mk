# SPDX-License-Identifier: Apache-2.0
#
# The TLS engine's own tests, fuzzers and benchmark. They link the engine's objects directly.

TLS_OBJ    := $(patsubst %.c,$(B)/pic/%.o,$(ENGINE_SRC))
TLS_HELP   := $(B)/exe/tests/unit/tls_pki.o $(B)/exe/tests/unit/tls_talk.o
TLS_TESTS  := $(patsubst tests/unit/%.c,$(B)/tests/%,$(sort $(wildcard tests/unit/test_tls_*.c)))
# A forked child leaves its parent's threads behind, which is no leak.
TLS_RUN     = TSAN_OPTIONS=report_thread_leaks=0
# Static, as in the engine: the shared library has not all that shim/tls/gcm.c uses.
TLS_LIBS    = -Wl,-Bstatic $(OPENSSL_STATIC) -Wl,-Bdynamic -ldl -lpthread
CHECK_LIBS  = $(shell pkg-config --libs check)

.PHONY: check-tls
check-tls: $(TLS_TESTS) ## test the TLS engine
	@for t in $(TLS_TESTS); do $(TLS_RUN) $$t || exit 1; done

$(TLS_TESTS): $(B)/tests/%: $(B)/exe/tests/unit/%.o $(TLS_HELP) $(TLS_OBJ)
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) $(TLS_LDFLAGS) -o $@ $^ $(CHECK_LIBS) $(TLS_LIBS)

# As the engine is linked; and two count allocations, and look into what is freed.
TLS_LDFLAGS = $(ENGINE_WRAP)
$(B)/tests/test_tls_key $(B)/tests/test_tls_mem: TLS_LDFLAGS += -Wl,--wrap=CRYPTO_set_mem_functions

-include $(TLS_TESTS:$(B)/tests/%=$(B)/exe/tests/unit/%.d) $(TLS_HELP:.o=.d)

.PHONY: bench-tls
bench-tls: $(B)/bench_tls $(B)/libmesh-engine.so ## measure the TLS engine beside plain OpenSSL
	$(B)/bench_tls $(B)/libmesh-engine.so

$(B)/bench_tls: $(B)/exe/bench/bench_tls.o $(B)/exe/tests/unit/tls_pki.o
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $^ $(TLS_LIBS)

-include $(B)/exe/bench/bench_tls.d

# Fuzzers are built by clang, with the engine, into a tree of their own. OpenSSL is not
# instrumented: it is not what is being tested.
FUZZ_SECONDS ?= 10
FUZZ_CC    ?= clang
FUZZ_B     := build-fuzz
FUZZ_FLAGS  = $(CPPFLAGS) -std=c11 $(WARN) -g -O1 -MMD -MP -fsanitize=fuzzer-no-link,address,undefined \
              -fno-sanitize-recover=undefined
FUZZ_TLS   := $(patsubst tests/fuzz/%.c,$(FUZZ_B)/%,$(sort $(wildcard tests/fuzz/fuzz_tls_*.c)))
FUZZ_OBJ   := $(patsubst %.c,$(FUZZ_B)/obj/%.o,$(ENGINE_SRC) tests/unit/tls_pki.c tests/unit/tls_talk.c)

.PHONY: fuzz-tls
fuzz-tls: $(FUZZ_TLS) ## fuzz the TLS engine, FUZZ_SECONDS each (default 10)
	@for t in $(FUZZ_TLS); do mkdir -p $$t.corpus; \
	  $$t -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=1024 -max_len=$$(case $$t in *_open) echo 16900;; *) echo 4096;; esac) \
	    -artifact_prefix=$$t. -print_final_stats=1 $$t.corpus >$$t.log 2>&1 || { tail -40 $$t.log; exit 1; }; \
	  echo "$$(basename $$t): $$(grep number_of_executed_units $$t.log | tr -s ' ' | cut -d' ' -f2) runs"; done

$(FUZZ_B)/obj/%.o: %.c
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(FUZZ_CC) $(FUZZ_FLAGS) -c $< -o $@

$(FUZZ_TLS): $(FUZZ_B)/%: $(FUZZ_B)/obj/tests/fuzz/%.o $(FUZZ_OBJ)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(FUZZ_CC) -fsanitize=fuzzer,address,undefined $(ENGINE_WRAP) -o $@ $^ $(TLS_LIBS)

-include $(FUZZ_OBJ:.o=.d) $(FUZZ_TLS:$(FUZZ_B)/%=$(FUZZ_B)/obj/tests/fuzz/%.d)
