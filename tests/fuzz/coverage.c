#include "coverage.h"

#include <stdint.h>
#include <string.h>

/* The counters of all files; the linker makes these names. */
extern uint8_t __start___sancov_cntrs[];
extern uint8_t __stop___sancov_cntrs[];

void coverage_forget(void) {
    memset(__start___sancov_cntrs, 0, (size_t)(__stop___sancov_cntrs - __start___sancov_cntrs));
}

/* The compiler calls these for each comparison. libFuzzer keeps values of four and eight bytes to write them into
 * inputs. Of shorter ones it keeps only how much they differ, which it reads with -use_value_profile alone; parsers
 * compare single bytes so often that it takes a tenth of the time. */
void __wrap___sanitizer_cov_trace_cmp1(uint8_t left, uint8_t right);
void __wrap___sanitizer_cov_trace_cmp2(uint16_t left, uint16_t right);
void __wrap___sanitizer_cov_trace_const_cmp1(uint8_t left, uint8_t right);
void __wrap___sanitizer_cov_trace_const_cmp2(uint16_t left, uint16_t right);

void __wrap___sanitizer_cov_trace_cmp1(uint8_t left, uint8_t right) {
    (void)left;
    (void)right;
}

void __wrap___sanitizer_cov_trace_cmp2(uint16_t left, uint16_t right) {
    (void)left;
    (void)right;
}

void __wrap___sanitizer_cov_trace_const_cmp1(uint8_t left, uint8_t right) {
    (void)left;
    (void)right;
}

void __wrap___sanitizer_cov_trace_const_cmp2(uint16_t left, uint16_t right) {
    (void)left;
    (void)right;
}
