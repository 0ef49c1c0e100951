// What happens to one value of an LSTM: pure functions, the same text for every level and device, and with
// fused multiply-adds where the text says so the same bits.
//
// The exponential is here because the libraries' differ, and because a loop that calls one is not vectorised.
// Sigmoid and tanh are within 4e-7 of the exact result, relatively, where that is a normal number.
//
// Included once a level, hence no guard; embedded in the text for NVRTC, hence no #include.

/// 2^n for n of -126 to 127.
GEEPS_ELEMENT float GEEPS_NAME(power_of_two)(int32_t n) {
    return GEEPS_FLOAT((uint32_t)(n + 127) << 23);
}

/// e^r - 1 where x = n log(2) + r and |r| <= log(2) / 2; |x| is at most 10^6.
GEEPS_ELEMENT float GEEPS_NAME(reduced_expm1)(float x, int32_t *n) {
    // Added to 1.5 * 2^23, a number is rounded to a whole one, which is then in the lower bits.
    const float shift = 12582912;
    float shifted = GEEPS_FMA(x, 1.44269504f, shift);
    float whole = shifted - shift;
    *n = (int32_t)GEEPS_BITS(shifted) - 0x4B400000;
    // log(2) in two parts.
    float r = GEEPS_FMA(whole, -0.693147182f, x);
    r = GEEPS_FMA(whole, 1.90465430e-9f, r);
    // The series up to r^7: what is left out is below 1.3e-8 of the result.
    float sum = 1.0f / 5040;
    sum = GEEPS_FMA(sum, r, 1.0f / 720);
    sum = GEEPS_FMA(sum, r, 1.0f / 120);
    sum = GEEPS_FMA(sum, r, 1.0f / 24);
    sum = GEEPS_FMA(sum, r, 1.0f / 6);
    sum = GEEPS_FMA(sum, r, 0.5f);
    return GEEPS_FMA(sum * r, r, r);
}

/// 1 / (1 + e^-x). A NaN stays one: it is not beyond a bound.
GEEPS_ELEMENT float GEEPS_NAME(sigmoid)(float x) {
    float y = -x;
    y = y > 104 ? 104 : y;
    y = y < -64 ? -64 : y;
    int32_t n;
    float rest = GEEPS_NAME(reduced_expm1)(y, &n);
    // 2^n in two factors: the product may be infinite, they are not.
    int32_t half = n >> 1;
    float factor = GEEPS_NAME(power_of_two)(half);
    float power = GEEPS_FMA(factor, rest, factor) * GEEPS_NAME(power_of_two)(n - half);
    return 1 / (1 + power);
}

/// (e^2|x| - 1) / (e^2|x| + 1), with the sign of x.
GEEPS_ELEMENT float GEEPS_NAME(tanh)(float x) {
    uint32_t bits = GEEPS_BITS(x);
    float y = 2 * GEEPS_FLOAT(bits & 0x7FFFFFFFu);
    y = y > 40 ? 40 : y;
    int32_t n;
    float rest = GEEPS_NAME(reduced_expm1)(y, &n);
    float factor = GEEPS_NAME(power_of_two)(n);
    float power_less_one = GEEPS_FMA(factor, rest, factor - 1);
    float magnitude = power_less_one / (power_less_one + 2);
    return GEEPS_FLOAT(GEEPS_BITS(magnitude) | (bits & 0x80000000u));
}

/// The cell after a step.
GEEPS_ELEMENT float GEEPS_NAME(lstm_cell)(
    float input, float forget, float candidate, float cell_before) {
    return GEEPS_FMA(forget, cell_before, input * candidate);
}
