/*
 * What libFuzzer is told of an input.
 */
#pragma once

/*
 * Forgets what has run since the input began. A target calls it after a beginning that is the same for each input: of
 * that libFuzzer learns nothing, but looks through it after each input.
 */
void coverage_forget(void);
