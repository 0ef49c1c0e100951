// For a program that runs on older systems than the one it was built on: functions that newer C libraries
// have under a newer version only. Built with GEEPS_PORTABLE.

#ifdef GEEPS_PORTABLE

// Of glibc 2.35; the sum of two squares of doubles overflows no long double.
double hypot(double x, double y);
float hypotf(float x, float y);

double hypot(double x, double y) {
    if (__builtin_isinf(x) || __builtin_isinf(y)) return __builtin_inf();
    return (double)__builtin_sqrtl((long double)x * x + (long double)y * y);
}

float hypotf(float x, float y) {
    if (__builtin_isinf(x) || __builtin_isinf(y)) return __builtin_inff();
    return (float)__builtin_sqrt((double)x * x + (double)y * y);
}

#endif
