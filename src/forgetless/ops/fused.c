/* What signs.py does in blocks of torch operations, in one pass over the weights; the results are the same, bit for bit.
 * Words hold sixteen two-bit codes each, in the stripes that packing.py describes. An element is counted from the beginning of its
 * whole tensor. Every function returns how many weights it held back. */
#include <math.h>
#include <stdint.h>

enum { WORDS = 1024, STRIPE = 16 * WORDS };

typedef struct {
    const uint32_t *words; /* the first word */
    int shift;             /* that brings its code to the top two bits */
    int64_t length;        /* of neighbouring elements, how many have their codes in neighbouring words at this shift */
} Run;

static Run run_at(const uint32_t *packed, int64_t size, int64_t element)
{
    int64_t stripe = element / STRIPE, within = element % STRIPE;
    int64_t width = size - stripe * WORDS < WORDS ? size - stripe * WORDS : WORDS;
    return (Run){packed + stripe * WORDS + within % width, (int)(2 * (within / width)), width - within % width};
}

static inline int32_t is_held(uint32_t code, float gradient, int32_t frozen)
{
    int32_t negative = (int32_t)(code >> 31), opinion = (int32_t)(code >> 30) & 1;
    int32_t up = gradient > 0, down = gradient < 0;
    return (opinion & ((negative & up) | (~negative & down))) | (frozen & negative & ~opinion);
}

int64_t hold_back(const uint32_t *packed, int64_t size, int64_t element, int64_t count, const float *restrict gradient,
               const float *restrict before, float *restrict after, int32_t frozen)
{
    int64_t held = 0;
    while (count > 0) {
        Run run = run_at(packed, size, element);
        const uint32_t *restrict words = run.words;
        int64_t length = run.length < count ? run.length : count;
        int32_t here = 0;
        for (int64_t i = 0; i < length; i++) {
            int32_t stays = is_held(words[i] << run.shift, gradient[i], frozen);
            after[i] = stays ? before[i] : after[i];
            here += stays;
        }
        held += here, element += length, count -= length, gradient += length, before += length, after += length;
    }
    return held;
}

/* what the step follows: the gradient, and the weight itself where it decays */
static inline float drawn(float gradient, float weight, float added)
{
    return added != 0 ? fmaf(weight, added, gradient) : gradient;
}

/* weight + rate * gradient, with a fused multiply-add as torch has it */
static int64_t descend(const uint32_t *packed, int64_t size, int64_t element, int64_t count, const float *restrict gradient,
                       float *restrict weight, float rate, float added, int32_t frozen)
{
    int64_t held = 0;
    while (count > 0) {
        Run run = run_at(packed, size, element);
        const uint32_t *restrict words = run.words;
        int64_t length = run.length < count ? run.length : count;
        int32_t here = 0;
        for (int64_t i = 0; i < length; i++) {
            int32_t stays = is_held(words[i] << run.shift, gradient[i], frozen);
            float moved = fmaf(rate, drawn(gradient[i], weight[i], added), weight[i]);
            weight[i] = stays ? weight[i] : moved;
            here += stays;
        }
        held += here, element += length, count -= length, gradient += length, weight += length;
    }
    return held;
}

/* velocity = momentum * velocity + share * gradient everywhere, then weight + rate * velocity, or where nesterov looks ahead
 * weight + rate * (gradient + momentum * velocity) */
static int64_t descend_moving(const uint32_t *packed, int64_t size, int64_t element, int64_t count, const float *restrict gradient,
                              float *restrict weight, float rate, float added, int32_t frozen, float *restrict velocity,
                              float momentum, float share, int32_t nesterov)
{
    int64_t held = 0;
    while (count > 0) {
        Run run = run_at(packed, size, element);
        const uint32_t *restrict words = run.words;
        int64_t length = run.length < count ? run.length : count;
        int32_t here = 0;
        for (int64_t i = 0; i < length; i++) {
            int32_t stays = is_held(words[i] << run.shift, gradient[i], frozen);
            float along = drawn(gradient[i], weight[i], added);
            velocity[i] = fmaf(share, along, momentum * velocity[i]);
            float moved = fmaf(rate, nesterov ? fmaf(momentum, velocity[i], along) : velocity[i], weight[i]);
            weight[i] = stays ? weight[i] : moved;
            here += stays;
        }
        held += here, element += length, count -= length, gradient += length, weight += length, velocity += length;
    }
    return held;
}

static inline float averaged(float mean, float along, float share)
{
    float away = along - mean;
    return share < 0.5f ? fmaf(share, away, mean) : fmaf(share - 1, away, along);
}

static inline float squared(float square, float along, float beta, float part)
{
    return fmaf(part * along, along, square * beta);
}

/* The step of torch's fused Adam in its order of rounding; `by` holds what Adam.factors in descent.py gives */
static int64_t descend_adam(const uint32_t *packed, int64_t size, int64_t element, int64_t count, const float *restrict gradient,
                            float *restrict weight, const float *restrict by, int32_t frozen, float *restrict mean,
                            float *restrict square)
{
    float decay = by[0], added = by[1], share = by[2], beta = by[3], part = by[4], root = by[5], eps = by[6], rate = by[7];
    int64_t held = 0;
    while (count > 0) {
        Run run = run_at(packed, size, element);
        const uint32_t *restrict words = run.words;
        int64_t length = run.length < count ? run.length : count;
        int32_t here = 0;
        for (int64_t i = 0; i < length; i++) {
            int32_t stays = is_held(words[i] << run.shift, gradient[i], frozen);
            float along = fmaf(weight[i], added, gradient[i]);
            mean[i] = averaged(mean[i], along, share);
            square[i] = squared(square[i], along, beta, part);
            float moved = weight[i] * decay + rate * mean[i] / (sqrtf(square[i]) / root + eps);
            weight[i] = stays ? weight[i] : moved;
            here += stays;
        }
        held += here, element += length, count -= length;
        gradient += length, weight += length, mean += length, square += length;
    }
    return held;
}

/* The moments of torch's Adam as it steps operation by operation; what comes next is a square root, of which torch's own is not
 * rounded as the C library's, so it is left to torch */
void average(int64_t count, const float *restrict gradient, const float *restrict weight, const float *restrict by,
             float *restrict mean, float *restrict square)
{
    float added = by[1], share = by[2], beta = by[3], part = by[4];
    for (int64_t i = 0; i < count; i++) {
        float along = drawn(gradient[i], weight[i], added);
        mean[i] = averaged(mean[i], along, share);
        square[i] = squared(square[i], along, beta, part);
    }
}

/* The rest of that step, from the roots of the squares on */
int64_t descend_averaged(const uint32_t *packed, int64_t size, int64_t element, int64_t count, const float *restrict gradient,
                         float *restrict weight, const float *restrict by, int32_t frozen, const float *restrict mean,
                         const float *restrict roots)
{
    float decay = by[0], root = by[5], eps = by[6], rate = by[7];
    int64_t held = 0;
    while (count > 0) {
        Run run = run_at(packed, size, element);
        const uint32_t *restrict words = run.words;
        int64_t length = run.length < count ? run.length : count;
        int32_t here = 0;
        for (int64_t i = 0; i < length; i++) {
            int32_t stays = is_held(words[i] << run.shift, gradient[i], frozen);
            float moved = weight[i] * decay + rate * mean[i] / (roots[i] / root + eps);
            weight[i] = stays ? weight[i] : moved;
            here += stays;
        }
        held += here, element += length, count -= length;
        gradient += length, weight += length, mean += length, roots += length;
    }
    return held;
}

typedef struct {
    int64_t packed, size, element, count, gradient, weight, first, second; /* addresses as numbers */
    int64_t held;
} Stretch;

/* A whole step in one call: on each of n stretches the kind of step that `by` is for */
void descend_all(Stretch *stretches, int64_t n, int32_t kind, const float *by, int32_t frozen)
{
    for (Stretch *at = stretches; at < stretches + n; at++) {
        const uint32_t *packed = (const uint32_t *)(intptr_t)at->packed;
        const float *gradient = (const float *)(intptr_t)at->gradient;
        float *weight = (float *)(intptr_t)at->weight, *first = (float *)(intptr_t)at->first, *second = (float *)(intptr_t)at->second;
        if (kind == 0)
            at->held = descend(packed, at->size, at->element, at->count, gradient, weight, by[0], by[1], frozen);
        else if (kind == 1)
            at->held = descend_moving(packed, at->size, at->element, at->count, gradient, weight, by[0], by[1], frozen, first, by[2], by[3],
                                      by[4] != 0);
        else
            at->held = descend_adam(packed, at->size, at->element, at->count, gradient, weight, by, frozen, first, second);
    }
}
