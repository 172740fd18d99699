/* Memory that is refused: put before the C library by LD_PRELOAD, in whose place it gives libtorch its blocks. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

static volatile size_t most = SIZE_MAX;

void refuse_above(size_t bytes) { most = bytes; }

int posix_memalign(void **block, size_t alignment, size_t size) {
  static int (*given)(void **, size_t, size_t);
  if (size > most) return ENOMEM;
  if (given == NULL) given = (int (*)(void **, size_t, size_t))dlsym(RTLD_NEXT, "posix_memalign");
  return given(block, alignment, size);
}
