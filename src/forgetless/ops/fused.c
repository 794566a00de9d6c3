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

/* weight + rate * gradient, with a fused multiply-add as torch has it */
int64_t descend(const uint32_t *packed, int64_t size, int64_t element, int64_t count, const float *restrict gradient,
             float *restrict weight, float rate, int32_t frozen)
{
    int64_t held = 0;
    while (count > 0) {
        Run run = run_at(packed, size, element);
        const uint32_t *restrict words = run.words;
        int64_t length = run.length < count ? run.length : count;
        int32_t here = 0;
        for (int64_t i = 0; i < length; i++) {
            int32_t stays = is_held(words[i] << run.shift, gradient[i], frozen);
            float moved = fmaf(rate, gradient[i], weight[i]);
            weight[i] = stays ? weight[i] : moved;
            here += stays;
        }
        held += here, element += length, count -= length, gradient += length, weight += length;
    }
    return held;
}

/* velocity = momentum * velocity + share * gradient everywhere, then weight + rate * velocity */
int64_t descend_moving(const uint32_t *packed, int64_t size, int64_t element, int64_t count, const float *restrict gradient,
                    float *restrict weight, float rate, int32_t frozen, float *restrict velocity, float momentum, float share)
{
    int64_t held = 0;
    while (count > 0) {
        Run run = run_at(packed, size, element);
        const uint32_t *restrict words = run.words;
        int64_t length = run.length < count ? run.length : count;
        int32_t here = 0;
        for (int64_t i = 0; i < length; i++) {
            int32_t stays = is_held(words[i] << run.shift, gradient[i], frozen);
            velocity[i] = fmaf(share, gradient[i], momentum * velocity[i]);
            float moved = fmaf(rate, velocity[i], weight[i]);
            weight[i] = stays ? weight[i] : moved;
            here += stays;
        }
        held += here, element += length, count -= length, gradient += length, weight += length, velocity += length;
    }
    return held;
}

/* The step of torch's fused Adam in its order of rounding; `by` holds what Adam.factors in descent.py gives */
int64_t descend_adam(const uint32_t *packed, int64_t size, int64_t element, int64_t count, const float *restrict gradient,
                     float *restrict weight, const float *restrict by, int32_t frozen, float *restrict mean, float *restrict square)
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
            float away = along - mean[i];
            mean[i] = share < 0.5f ? fmaf(share, away, mean[i]) : fmaf(share - 1, away, along);
            square[i] = fmaf(part * along, along, square[i] * beta);
            float moved = weight[i] * decay + rate * mean[i] / (sqrtf(square[i]) / root + eps);
            weight[i] = stays ? weight[i] : moved;
            here += stays;
        }
        held += here, element += length, count -= length;
        gradient += length, weight += length, mean += length, square += length;
    }
    return held;
}
