#include <math.h>

float __wrap_hypotf(float x, float y);

// Swift's library names hypotf, which glibc 2.35 gave a new version; `make library` links with
// --wrap=hypotf, so that libgeeps.so loads with glibc 2.34 too. Doubles hold the squares exactly enough.
float __wrap_hypotf(float x, float y) {
    if (isinf(x) || isinf(y)) return INFINITY;
    return (float)sqrt((double)x * (double)x + (double)y * (double)y);
}
