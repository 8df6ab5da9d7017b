// llama.cpp's searches for the scale of a sub-block, with a sub-block in each lane.
//
// Each function is the one of ggml-quants.c that its comment names, line by line: the same operations on the same
// numbers in the same order. What is a branch there is a mask here; a lane that would have left a loop goes on and
// changes nothing.
// n is the number of elements, x their values, w their weights; levels come out in L.
#pragma once

#include <stdbool.h>

#include "vector.h"

#define NO_SCALE_BELOW 1e-15f
// Of how many sub-blocks scales and minima are searched at once.
#define SIDES 2

// The element of the largest magnitude, the first of equal ones.
INLINE vec largest(int n, const vec *x, vec *magnitude_of_it) {
    vec max = all(0), amax = all(0);
    for (int i = 0; i < n; i++) {
        const vec ax = magnitude(x[i]);
        const ivec more = ax > amax;
        amax = pick(more, ax, amax);
        max = pick(more, x[i], max);
    }
    *magnitude_of_it = amax;
    return max;
}

struct steps {
    float from, by;
    int count;
    bool absolute, equal;
};

// How one candidate of make_qkx2_quants and make_qkx3_quants does.
INLINE void errors_of(int sides, int n, const vec *x, const vec *w, const vec *level, const vec *scale, const vec *min,
                      bool absolute, vec *error) {
    for (int s = 0; s < sides; s++) {
        error[s] = all(0);
    }
    for (int i = 0; i < n; i++) {
        for (int s = 0; s < sides; s++) {
            const vec diff = scale[s] * level[s * n + i] + min[s] - x[s * n + i];
            error[s] += w[s * n + i] * (absolute ? magnitude(diff) : diff * diff);
        }
    }
}

// The levels of one candidate of theirs, and the sums that decide about it. `small` says that no number is beyond
// MOST_NEAREST: levels are found more quickly then.
INLINE void sums_of(int sides, int n, int most, const vec *x, const vec *w, const vec *iscale, const vec *min,
                    bool small, vec *level, vec *sum_l, vec *sum_l2, vec *sum_xl) {
    for (int s = 0; s < sides; s++) {
        sum_l[s] = sum_l2[s] = sum_xl[s] = all(0);
    }
    for (int i = 0; i < n; i++) {
        for (int s = 0; s < sides; s++) {
            const int at = s * n + i;
            const vec scaled = iscale[s] * (x[at] - min[s]);
            const vec l = small ? nearest_small_between(0, most, scaled) : float_of(nearest_between(0, most, scaled));
            level[at] = l;
            const vec wl = w[at] * l;
            sum_l[s] += wl;
            sum_l2[s] += wl * l;
            sum_xl[s] += wl * x[at];
        }
    }
}

// What is known of a sub-block while it is searched.
struct search {
    vec least, max, sum_w, sum_x, flat_min, best, best_iscale, best_from;
    ivec flat;
};

// Before the first candidate: a scale, a minimum and levels.
INLINE void begin_search(int n, int most, bool equal, const vec *x, const vec *w, struct search *found, vec *scale,
                         vec *min, vec *level) {
    vec least = x[0], max = x[0], sum_w = w[0], sum_x = sum_w * x[0];
    for (int i = 1; i < n; i++) {
        least = pick(x[i] < least, x[i], least);
        max = pick(x[i] > max, x[i], max);
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    *min = pick(least > 0, all(0), least);
    const vec iscale = (float)most / (max - *min);
    *scale = 1 / iscale;
    for (int i = 0; i < n; i++) {
        level[i] = float_of(nearest_between(0, most, iscale * (x[i] - *min)));
    }
    *found = (struct search){.least = least, .max = max, .sum_w = sum_w, .sum_x = sum_x, .flat_min = *min,
                             .best_iscale = iscale, .best_from = *min, .flat = equal ? max == *min : max <= *min};
}

// make_qkx3_quants, and make_qkx2_quants where steps->equal: scales and minima, to be subtracted, of `sides` sub-blocks
// that follow each other. They go side by side, since in each one every addition waits for the one before.
INLINE void search_scales_and_mins(int sides, int n, int most, const vec *x, const vec *w, ivec *L, vec *scale,
                                   vec *the_min, const struct steps steps) {
    vec level[SIDES * 32], min[SIDES], iscale[SIDES], sum_l[SIDES], sum_l2[SIDES], sum_xl[SIDES], error[SIDES];
    vec this_scale[SIDES], this_min[SIDES];
    ivec regular[SIDES];
    struct search found[SIDES];
    for (int s = 0; s < sides; s++) {
        begin_search(n, most, steps.equal, x + s * n, w + s * n, &found[s], &scale[s], &min[s], level + s * n);
    }
    errors_of(sides, n, x, w, level, scale, min, steps.absolute, error);
    for (int s = 0; s < sides; s++) {
        found[s].best = error[s];
    }
    for (int is = 0; is <= steps.count; is++) {
        ivec large = {0};
        for (int s = 0; s < sides; s++) {
            iscale[s] = (steps.from + steps.by * is + most) / (found[s].max - min[s]);
            // Rounding keeps the order of numbers, so what becomes of the least and the greatest bounds all.
            const vec lowest = magnitude(iscale[s] * (found[s].least - min[s]));
            const vec highest = magnitude(iscale[s] * (found[s].max - min[s]));
            large |= ~((lowest <= MOST_NEAREST) & (highest <= MOST_NEAREST));
        }
        if (any(large)) {
            sums_of(sides, n, most, x, w, iscale, min, false, level, sum_l, sum_l2, sum_xl);
        } else {
            sums_of(sides, n, most, x, w, iscale, min, true, level, sum_l, sum_l2, sum_xl);
        }
        for (int s = 0; s < sides; s++) {
            const vec sum_w = found[s].sum_w, sum_x = found[s].sum_x;
            const vec D = sum_w * sum_l2[s] - sum_l[s] * sum_l[s];
            const vec own_min = (sum_l2[s] * sum_x - sum_l[s] * sum_xl[s]) / D;
            const ivec above = own_min > 0;
            regular[s] = D > 0;
            this_min[s] = pick(above, all(0), own_min);
            this_scale[s] = pick(above, sum_xl[s] / sum_l2[s], (sum_w * sum_xl[s] - sum_x * sum_l[s]) / D);
        }
        errors_of(sides, n, x, w, level, this_scale, this_min, steps.absolute, error);
        for (int s = 0; s < sides; s++) {
            const ivec better = regular[s] & (error[s] < found[s].best);
            found[s].best = pick(better, error[s], found[s].best);
            found[s].best_iscale = pick(better, iscale[s], found[s].best_iscale);
            found[s].best_from = pick(better, min[s], found[s].best_from);
            scale[s] = pick(better, this_scale[s], scale[s]);
            min[s] = pick(better, this_min[s], min[s]);
        }
    }
    for (int s = 0; s < sides; s++) {
        const ivec flat = found[s].flat;
        for (int i = s * n; i < (s + 1) * n; i++) {
            L[i] = nearest_between(0, most, found[s].best_iscale * (x[i] - found[s].best_from)) & ~flat;
        }
        the_min[s] = negative(pick(flat, found[s].flat_min, min[s]));
        scale[s] = pick(flat, all(0), scale[s]);
    }
}

// make_qx_quants with rmse_type 1: levels from -most to most - 1, of which `most` is 0. `finite` says that all elements
// are: none is scaled beyond most + 1 then, as none is larger than max.
INLINE vec search_scale(int n, int most, const vec *x, const vec *w, bool finite, ivec *L) {
    vec amax, wx[32];
    const vec max = largest(n, x, &amax);
    const ivec none = amax < NO_SCALE_BELOW;
    vec scale = all(0), best = all(0), best_iscale = all(0);
    for (int i = 0; i < n; i++) {
        wx[i] = w[i] * x[i];
    }
    for (int try = 0; try <= 18; try++) {
        // First without an offset, then from -9 to 9 without 0.
        const int is = try == 0 ? 0 : try <= 9 ? try - 10 : try - 9;
        const vec iscale = (try == 0 ? (float)-most : -(most + 0.1f * is)) / max;
        vec sumlx = all(0), suml2 = all(0);
        for (int i = 0; i < n; i++) {
            const vec scaled = iscale * x[i];
            const vec l = finite ? nearest_small_between(-most, most - 1, scaled)
                                 : float_of(nearest_between(-most, most - 1, scaled));
            sumlx += wx[i] * l;
            suml2 += w[i] * l * l;
        }
        if (try == 0) {
            scale = pick(suml2 != 0, sumlx / suml2, all(0));
            best = scale * sumlx;
            best_iscale = iscale;
        } else {
            const ivec better = (suml2 > 0) & (sumlx * sumlx > best * suml2);
            scale = pick(better, sumlx / suml2, scale);
            best = pick(better, scale * sumlx, best);
            best_iscale = pick(better, iscale, best_iscale);
        }
    }
    for (int i = 0; i < n; i++) {
        L[i] = (nearest_between(-most, most - 1, best_iscale * x[i]) + most) & ~none;
    }
    return pick(none, all(0), scale);
}

// make_q3_quants with do_rmse: one element after the other is moved to where it does best, up to five times.
INLINE vec search_scale_by_turns(int n, int most, const vec *x, ivec *L) {
    vec amax, sumlx = all(0), suml2 = all(0);
    const vec max = largest(n, x, &amax), iscale = (float)-most / max;
    const ivec none = amax < NO_SCALE_BELOW;
    for (int i = 0; i < n; i++) {
        const vec w = x[i] * x[i];
        L[i] = nearest_between(-most, most - 1, iscale * x[i]);
        const vec l = float_of(L[i]);
        sumlx += w * x[i] * l;
        suml2 += w * l * l;
    }
    for (int try = 0; try < 5; try++) {
        ivec changed = {0};
        for (int i = 0; i < n; i++) {
            const vec w = x[i] * x[i], old = float_of(L[i]);
            vec slx = sumlx - w * x[i] * old, sl2 = suml2 - w * old * old;
            const ivec level = nearest_between(-most, most - 1, x[i] * sl2 / slx);
            const vec l = float_of(level);
            ivec move = (slx > 0) & (level != L[i]);
            slx += w * x[i] * l;
            sl2 += w * l * l;
            move &= (sl2 > 0) & (slx * slx * suml2 > sumlx * sumlx * sl2);
            L[i] = (ivec)pick(move, (vec)level, (vec)L[i]);
            sumlx = pick(move, slx, sumlx);
            suml2 = pick(move, sl2, suml2);
            changed |= move;
        }
        if (!any(changed)) {
            break;
        }
    }
    for (int i = 0; i < n; i++) {
        L[i] = (L[i] + most) & ~none;
    }
    return pick(~none & (suml2 > 0), sumlx / suml2, all(0));
}

// make_qp_quants: the scales' own scale. Levels are bytes there, so they lose what is above 255.
INLINE vec search_scale_of_scales(int n, int most, const vec *x, ivec *L, const vec *w) {
    const ivec highest = most - (ivec){0};
    vec max = all(0);
    for (int i = 0; i < n; i++) {
        max = pick(max > x[i], max, x[i]);
    }
    const ivec none = max < NO_SCALE_BELOW;
    vec iscale = (float)most / max, scale = 1 / iscale, best = all(0);
    for (int i = 0; i < n; i++) {
        const vec diff = x[i] - scale * float_of(nearest(iscale * x[i]) & 255);
        best += w[i] * diff * diff;
    }
    for (int is = -4; is <= 4; is++) {
        if (is == 0) {
            continue;
        }
        const vec this_iscale = (0.1f * is + most) / max, this_scale = 1 / this_iscale;
        vec error = all(0);
        for (int i = 0; i < n; i++) {
            const vec diff = x[i] - this_scale * float_of(at_most(nearest(this_iscale * x[i]), highest));
            error += w[i] * diff * diff;
        }
        const ivec better = error < best;
        best = pick(better, error, best);
        iscale = pick(better, this_iscale, iscale);
    }
    vec sumlx = all(0), suml2 = all(0);
    for (int i = 0; i < n; i++) {
        const ivec level = at_most(nearest(iscale * x[i]), highest);
        const vec l = float_of(level);
        L[i] = level & 255;
        sumlx += w[i] * x[i] * l;
        suml2 += w[i] * l * l;
    }
    for (int try = 0; try < 5; try++) {
        ivec changed = {0};
        for (int i = 0; i < n; i++) {
            const vec wx = w[i] * x[i], old = float_of(L[i]);
            vec slx = sumlx - wx * old, sl2 = suml2 - w[i] * old * old;
            const ivec level = at_most(nearest(x[i] * sl2 / slx), highest);
            const vec l = float_of(level);
            ivec move = (slx > 0) & (sl2 > 0) & (level != L[i]);
            slx += wx * l;
            sl2 += w[i] * l * l;
            move &= slx * slx * suml2 > sumlx * sumlx * sl2;
            L[i] = (ivec)pick(move, (vec)(level & 255), (vec)L[i]);
            sumlx = pick(move, slx, sumlx);
            suml2 = pick(move, sl2, suml2);
            changed |= move;
        }
        if (!any(changed)) {
            break;
        }
    }
    for (int i = 0; i < n; i++) {
        L[i] &= ~none;
    }
    return pick(~none & (suml2 > 0), sumlx / suml2, all(0));
}
