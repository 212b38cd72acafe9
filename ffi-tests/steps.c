/* The step functions against numbers worked out here, by hand or by the formula.
 *
 * Prints one line.
 */

#include "check.h"

#include <math.h>

#define NEAR(got, expected, room)                                                          \
  do {                                                                                     \
    double got_ = (got), expected_ = (expected);                                           \
    if (!(fabs(got_ - expected_) <= (room))) {                                             \
      fprintf(stderr, "%s:%d: %s is %.9g, expected %.9g\n", __FILE__, __LINE__, #got, got_, \
              expected_);                                                                  \
      exit(1);                                                                             \
    }                                                                                      \
  } while (0)

#define REFUSED(call, status, words) \
  CHECK((call) == (status) && strstr(qc_last_error(), words) != NULL)

static qc_weight_quantizer of(int32_t kind) {
  qc_weight_quantizer q;
  OK(qc_weight_quantizer_init(sizeof q, &q));
  CHECK(q.struct_size == sizeof q && q.kind == QC_BINARY_MEAN && q.bits == 4);
  q.kind = kind;
  return q;
}

/* Projects six weights, all in one row, without a metric unless there is one. */
typedef struct projected {
  int32_t codes[6];
  float values[6], scales[2];
} projected;

static const float W[6] = {0.5f, -1.5f, 0.0f, 0.25f, 2.0f, -0.75f};
static const float D[6] = {4.0f, 1.0f, 1.0f, 2.0f, 1.0f, 8.0f};

static projected project(const qc_weight_quantizer *q, const float *metric, size_t n_scales) {
  projected p;
  size_t i;
  memset(&p, 0xA5, sizeof p);
  OK(qc_project_weights(q, W, 1, 6, metric, 7, 3, 1, p.codes, p.values, p.scales, n_scales));
  if (n_scales == 1 && !q->relaxed) {
    for (i = 0; i < 6; i++) CHECK(p.values[i] == p.scales[0] * (float)p.codes[i]);
  }
  return p;
}

static void codes_are(projected p, int32_t a, int32_t b, int32_t c, int32_t d, int32_t e, int32_t f) {
  int32_t expected[6];
  expected[0] = a, expected[1] = b, expected[2] = c;
  expected[3] = d, expected[4] = e, expected[5] = f;
  CHECK(memcmp(p.codes, expected, sizeof expected) == 0);
}

/* The best ternary weights in a metric, over all 729 codes. */
static double best_ternary(const float *metric) {
  double best = 1e30;
  int choice, i;
  for (choice = 0; choice < 729; choice++) {
    double above = 0, below = 0, all = 0, error;
    int rest = choice;
    for (i = 0; i < 6; i++, rest /= 3) {
      double code = rest % 3 - 1;
      above += metric[i] * W[i] * code;
      below += metric[i] * code * code;
      all += metric[i] * (double)W[i] * W[i];
    }
    error = below > 0 && above > 0 ? all - above * above / below : all;
    if (error < best) best = error;
  }
  return best;
}

static double error_of(projected p, const float *metric) {
  double sum = 0;
  int i;
  for (i = 0; i < 6; i++) sum += metric[i] * pow((double)W[i] - p.values[i], 2);
  return sum;
}

/* Where alternating between codes and scale may end: no other level of `levels` is nearer to a weight, no other scale is
 * better for the codes, and both together are better than zeros. */
static void settled(const qc_weight_quantizer *q, const float *w, const float *d, int n,
                    const int *levels, int n_levels) {
  int32_t codes[64];
  float scale = -1;
  double above = 0, below = 0, error = 0, zeros = 0;
  int i, l;
  CHECK(n <= 64);
  OK(qc_project_weights(q, w, 1, (size_t)n, d, 0, 0, 0, codes, NULL, &scale, 1));
  CHECK(scale > 0);
  for (i = 0; i < n; i++) {
    double off = fabs(w[i] - (double)scale * codes[i]), least = 1e30;
    int known = 0;
    for (l = 0; l < n_levels; l++) {
      double other = fabs(fabs(w[i]) - (double)scale * levels[l]);
      if (other < least) least = other;
      known |= abs(codes[i]) == levels[l];
    }
    CHECK(known);
    NEAR(off, least, 1e-5 * scale);
    above += (double)d[i] * w[i] * codes[i], below += (double)d[i] * codes[i] * codes[i];
    error += d[i] * off * off, zeros += (double)d[i] * w[i] * w[i];
  }
  CHECK(below > 0 && error < 0.75 * zeros);
  NEAR(scale, above / below, 1e-5 * scale);
}

static void alternations(void) {
  static const int linear[8] = {0, 1, 2, 3, 4, 5, 6, 7}, powers[8] = {0, 1, 2, 4, 8, 16, 32, 64};
  static const int log_levels[5] = {0, 0, 2, 4, 8};
  uint32_t state = 1;
  int round, bits, i;
  for (round = 0; round < 50; round++) {
    float w[40], d[40];
    qc_weight_quantizer q;
    for (i = 0; i < 40; i++) {
      state = state * 1664525u + 1013904223u;
      w[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
      state = state * 1664525u + 1013904223u;
      d[i] = 0.1f + (float)(state >> 8) / 8388608.0f;
    }
    for (bits = 2; bits <= 4; bits++) {
      q = of(QC_LOSS_AWARE_LINEAR);
      q.bits = bits;
      settled(&q, w, d, 40, linear, 1 << (bits - 1));
      q = of(QC_LOSS_AWARE_LOG);
      q.bits = bits;
      settled(&q, w, d, 40, powers, log_levels[bits]);
    }
    q = of(QC_LOSS_AWARE_TERNARY);
    q.variant = 1;
    settled(&q, w, d, 40, linear, 2);
  }
}

static void binary_weights(void) {
  qc_weight_quantizer q = of(QC_BINARY_MEAN);
  projected p = project(&q, NULL, 1);
  float scales[3];
  int32_t codes[6];
  codes_are(p, 1, -1, 1, 1, 1, -1);
  NEAR(p.scales[0], 5.0 / 6, 1e-7);
  /* Three rows of two. */
  q.per_channel = 1;
  OK(qc_project_weights(&q, W, 3, 2, NULL, 0, 0, 0, codes, NULL, scales, 3));
  CHECK(scales[0] == 1.0f && scales[1] == 0.125f && scales[2] == 1.375f);
  q = of(QC_BINARY_MEDIAN);
  CHECK(project(&q, NULL, 1).scales[0] == 0.625f);
  q = of(QC_BINARY_PLAIN);
  q.scale = 0.3f;
  CHECK(project(&q, NULL, 1).scales[0] == 0.3f);
  /* sum D |w| = 2 + 1.5 + 0.5 + 2 + 6 = 12, sum D = 17. */
  q = of(QC_LOSS_AWARE_BINARY);
  NEAR(project(&q, D, 1).scales[0], 12.0 / 17, 1e-7);
  NEAR(project(&q, NULL, 1).scales[0], 5.0 / 6, 1e-7);
}

static void ternary_weights(void) {
  static const float one[6] = {1, 1, 1, 1, 1, 1};
  qc_weight_quantizer q = of(QC_TERNARY_TWN);
  /* 0.7 * 5/6 = 0.583: kept are 1.5, 2, 0.75, of mean 4.25 / 3. */
  projected p = project(&q, NULL, 1);
  codes_are(p, 0, -1, 0, 0, 1, -1);
  NEAR(p.scales[0], 4.25 / 3, 1e-6);
  q.variant = 1;
  NEAR(project(&q, NULL, 1).scales[0], 4.25 / 6, 1e-6);
  q = of(QC_TERNARY_EXACT);
  /* (2 + 1.5)^2 / 2 = 6.125 is more than 4.25^2 / 3 = 6.02 and 2^2. */
  p = project(&q, NULL, 1);
  codes_are(p, 0, -1, 0, 0, 1, 0);
  CHECK(p.scales[0] == 1.75f);
  NEAR(error_of(p, one), best_ternary(one), 1e-6);
  q = of(QC_LOSS_AWARE_TERNARY);
  NEAR(error_of(project(&q, D, 1), D), best_ternary(D), 1e-5);
  q.variant = 1;
  p = project(&q, D, 1);
  /* From 12 / 17, the scale of all kept: beyond half of it are all but 0 and 0.25, which have 11.5 / 14, and stay. */
  codes_are(p, 1, -1, 0, 0, 1, -1);
  NEAR(p.scales[0], 11.5 / 14, 1e-6);
  CHECK(error_of(p, D) >= best_ternary(D) - 1e-5);
  q.variant = 2;
  /* Of +0.5 (4), 0.25 (2), 2 (1): 4^2 / 5 of two beats 4.5^2 / 7 and 4. Of -1.5 (1), -0.75 (8): 7.5^2 / 9 beats 2.25. */
  p = project(&q, D, 2);
  NEAR(p.scales[0], 2.0, 1e-6);
  NEAR(p.scales[1], 7.5 / 9, 1e-6);
  codes_are(p, 0, -1, 0, 0, 1, -1);
  q = of(QC_TERNARY_ABS_MEAN);
  /* In units of 0.83334: 0.6, -1.8, 0, 0.3, 2.4, -0.9. */
  codes_are(project(&q, NULL, 1), 1, -1, 0, 0, 1, -1);
}

static void more_levels(void) {
  qc_weight_quantizer q = of(QC_UNIFORM_SYM);
  projected p = project(&q, NULL, 1);
  int i;
  double above = 0, below = 0;
  /* d = 2 / 15; codes ceil((|w| / d - 1) / 2): 3.75 -> 2, 11.25 -> 6, 0, 1.875 -> 1, 7, 5.625 -> 3. */
  codes_are(p, 2, -6, 0, 1, 7, -3);
  for (i = 0; i < 6; i++) above += W[i] * p.codes[i], below += p.codes[i] * p.codes[i];
  NEAR(p.scales[0], above / below, 1e-7);
  q.sweeps = 20;
  p = project(&q, NULL, 1);
  for (i = 0; i < 6; i++) CHECK(abs(p.codes[i]) == (int)floor(fabs(W[i]) / p.scales[0] + 0.5));
  q = of(QC_GRID_DET);
  q.delta = 0.5f;
  codes_are(project(&q, NULL, 1), 1, -3, 0, 1, 4, -2);
  q = of(QC_GRID_STOCH);
  q.delta = 0.5f;
  p = project(&q, NULL, 1);
  /* Multiples stay; 0.25 and -0.75 go to either side. */
  CHECK(p.codes[0] == 1 && p.codes[1] == -3 && p.codes[2] == 0 && p.codes[4] == 4);
  CHECK((p.codes[3] == 0 || p.codes[3] == 1) && (p.codes[5] == -1 || p.codes[5] == -2));
  {
    projected again = project(&q, NULL, 1);
    CHECK(memcmp(&again, &p, sizeof p.codes) == 0);
  }
  q = of(QC_LOSS_AWARE_LINEAR);
  q.bits = 3;
  p = project(&q, D, 1);
  /* From 2 / 3: 0.75, -2.25, 0, 0.375, 3, -1.125, whose codes have (2 + 3 + 6 + 6) / (4 + 4 + 9 + 8), and stay. */
  codes_are(p, 1, -2, 0, 0, 3, -1);
  NEAR(p.scales[0], 17.0 / 25, 1e-6);
  q.kind = QC_LOSS_AWARE_LOG;
  p = project(&q, D, 1);
  /* From 2 / 4: 1, -3 (a tie, up), 0, 0.5 (up), 4, -1.5 (up), whose codes have
   * (2 + 6 + 0.5 + 8 + 12) / (4 + 16 + 2 + 16 + 32), and stay. */
  codes_are(p, 1, -4, 0, 1, 4, -2);
  NEAR(p.scales[0], 28.5 / 70, 1e-6);
  q = of(QC_LSQ_WEIGHT);
  q.bits = 3;
  q.first_scale = 0.5f;
  /* 1, -3, 0, 0.5 (to even), 4 clamped to 3, -1.5 (to even). */
  codes_are(project(&q, NULL, 1), 1, -3, 0, 0, 3, -2);
  q = of(QC_DOREFA);
  q.bits = 2;
  p = project(&q, NULL, 1);
  for (i = 0; i < 6; i++) {
    double r = tanh(W[i]) / (2 * tanh(2.0)) + 0.5;
    CHECK(p.codes[i] == 2 * (int)floor(3 * r + 0.5) - 3 || fabs(3 * r - floor(3 * r) - 0.5) < 1e-6);
  }
  NEAR(p.scales[0], 1.0 / 3, 1e-7);
}

static void draws(void) {
  static float w[40000], values[40000];
  float scale;
  double sum = 0;
  size_t i;
  qc_weight_quantizer q = of(QC_STOCH_BINARY);
  q.scale = 2.0f;
  for (i = 0; i < 40000; i++) w[i] = 0.5f;
  OK(qc_project_weights(&q, w, 200, 200, NULL, 1, 0, 0, NULL, values, &scale, 1));
  for (i = 0; i < 40000; i++) {
    CHECK(values[i] == 2.0f || values[i] == -2.0f);
    sum += values[i];
  }
  /* The mean is w; four standard errors. */
  NEAR(sum / 40000, 0.5, 4 * 2.0 / 200);
  OK(qc_round(w, 40000, 1.0f, QC_STOCHASTIC, 1, 2, 3));
  for (sum = 0, i = 0; i < 40000; i++) sum += w[i];
  NEAR(sum / 40000, 0.5, 4 * 0.5 / 200);
  {
    float few[5] = {0.24f, 0.25f, -0.25f, -0.74f, 9.0f};
    OK(qc_round(few, 5, 0.5f, QC_NEAREST, 0, 0, 0));
    CHECK(few[0] == 0 && few[1] == 0.5f && few[2] == -0.5f && few[3] == -0.5f && few[4] == 9);
    REFUSED(qc_round(few, 5, 0.0f, QC_NEAREST, 0, 0, 0), QC_ERROR_ARGUMENT, "delta is 0");
    REFUSED(qc_round(few, 5, 1.0f, QC_CEIL, 0, 0, 0), QC_ERROR_ARGUMENT, "rounding is 1");
  }
}

static void names_and_refusals(void) {
  qc_weight_quantizer q = of(QC_BINARY_MEAN);
  float scale = -1;
  int32_t encoding;
  projected p, hard;
  int i;
  OK(qc_weight_quantizer_parse("uniform-sym:bits=3,sweeps=2,scope=channel", &q));
  CHECK(q.kind == QC_UNIFORM_SYM && q.bits == 3 && q.sweeps == 2 && q.per_channel == 1);
  OK(qc_weight_quantizer_encoding(&q, &encoding));
  CHECK(encoding == QC_S3);
  OK(qc_weight_quantizer_parse("relaxed:lambda=3,of=ternary-exact", &q));
  CHECK(q.kind == QC_TERNARY_EXACT && q.relaxed == 1 && q.lambda == 3.0f && q.per_channel == 0);
  OK(qc_weight_quantizer_encoding(&q, &encoding));
  CHECK(encoding == 0);
  p = project(&q, NULL, 1);
  q.relaxed = 0;
  hard = project(&q, NULL, 1);
  for (i = 0; i < 6; i++) NEAR(p.values[i], (W[i] + 3 * hard.values[i]) / 4, 1e-6);
  {
    float out[6];
    OK(qc_relax(W, hard.values, 6, 3.0f, out));
    CHECK(memcmp(out, p.values, sizeof out) == 0);
  }
  REFUSED(qc_weight_quantizer_parse("ternery-exact", &q), QC_ERROR_ARGUMENT,
          "did you mean ternary-exact?");
  REFUSED(qc_weight_quantizer_parse(NULL, &q), QC_ERROR_NULL, "text is NULL");
  q.kind = 99;
  REFUSED(qc_weight_quantizer_encoding(&q, &encoding), QC_ERROR_ARGUMENT, "kind is 99");
  q = of(QC_UNIFORM_SYM);
  q.bits = 1;
  REFUSED(qc_project_weights(&q, W, 1, 6, NULL, 0, 0, 0, NULL, NULL, &scale, 1),
          QC_ERROR_ARGUMENT, "bits is 1");
  q = of(QC_BINARY_MEAN);
  REFUSED(qc_project_weights(&q, W, 1, 6, NULL, 0, 0, 0, NULL, NULL, &scale, 2),
          QC_ERROR_ARGUMENT, "n_scales is 2");
  REFUSED(qc_project_weights(&q, NULL, 1, 6, NULL, 0, 0, 0, NULL, NULL, &scale, 1), QC_ERROR_NULL,
          "latent is NULL");
  q.struct_size = 1;
  REFUSED(qc_project_weights(&q, W, 1, 6, NULL, 0, 0, 0, NULL, NULL, &scale, 1),
          QC_ERROR_ARGUMENT, "struct_size");
  CHECK(scale == -1);
}

static const float X[7] = {-1.0f, 0.0f, 0.2f, 0.5f, 0.75f, 1.5f, 2.0f};

static void mask(int32_t by, const double *expected) {
  float d[7];
  int i;
  for (i = 0; i < 7; i++) d[i] = 2.0f;
  OK(qc_mask_x(by, X, 7, 0.5f, 2, d));
  for (i = 0; i < 7; i++) NEAR(d[i], 2 * expected[i], 1e-6);
}

static void masks(void) {
  /* 2 bits of step 0.5: q = 3, top 1.5. */
  static const double clipped[7] = {0, 0, 1, 1, 1, 1, 0}, relu[7] = {0, 0, 1, 1, 1, 1, 1};
  static const double identity[7] = {1, 1, 1, 1, 1, 1, 1}, hard[7] = {1, 1, 1, 1, 1, 0, 0};
  static const double log_tailed[7] = {0, 0, 1, 1, 1, 1, 0.5}; /* 1 / (4 - 3 + 1) */
  static const double poly[7] = {0, 2, 1.6, 1, 0.5, 0, 0};
  static const double three[7] = {0, 0, 2, 2, 2, 2, 3}, ae[7] = {0, 0, 1, 1, 2, 3, 3};
  static const double two[7] = {0, 0, 0, 0, 0, 0, 3}, least[7] = {0, 0, 1, 1, 1, 1, 3};
  static const double lsq[7] = {0, 0, 0.6, 0, 0.5, 0, 3};
  const double *by_alpha[5];
  double reverse[7];
  float d[7], sum = -1, alpha;
  int i, by;
  for (i = 0; i < 7; i++) reverse[i] = X[i] > 0 ? exp(-X[i] / 1.5) : 0;
  mask(QC_BY_CLIPPED_RELU, clipped);
  mask(QC_BY_RELU, relu);
  mask(QC_BY_IDENTITY, identity);
  mask(QC_BY_LOG_TAILED, log_tailed);
  mask(QC_BY_REVERSE_EXP, reverse);
  mask(QC_BY_HARD_TANH, hard);
  mask(QC_BY_PIECEWISE_POLY, poly);
  by_alpha[0] = three, by_alpha[1] = ae, by_alpha[2] = two, by_alpha[3] = least, by_alpha[4] = lsq;
  for (by = QC_ALPHA_THREE; by <= QC_ALPHA_LSQ; by++) {
    double expected = 0;
    for (i = 0; i < 7; i++) {
      d[i] = (float)(i + 1);
      expected += d[i] * by_alpha[by - 1][i];
    }
    OK(qc_sum_alpha(by, X, 7, 0.5f, 2, QC_CEIL, d, &sum));
    NEAR(sum, expected, 1e-5);
  }
  {
    static const float latent[4] = {-1.5f, -1.0f, 0.5f, 1.25f};
    float g[4] = {1, 2, 3, 4};
    OK(qc_mask_w(QC_WEIGHT_IDENTITY, latent, 4, g));
    CHECK(g[0] == 1 && g[3] == 4);
    OK(qc_mask_w(QC_WEIGHT_CLIP1, latent, 4, g));
    CHECK(g[0] == 0 && g[1] == 2 && g[2] == 3 && g[3] == 0);
    REFUSED(qc_mask_w(3, latent, 4, g), QC_ERROR_ARGUMENT, "by is 3");
  }
  REFUSED(qc_mask_x(0, X, 7, 0.5f, 2, d), QC_ERROR_ARGUMENT, "by is 0");
  REFUSED(qc_mask_x(QC_BY_RELU, X, 7, 0.0f, 2, d), QC_ERROR_ARGUMENT, "alpha is 0");
  REFUSED(qc_sum_alpha(1, X, 7, 0.5f, 9, QC_CEIL, d, &sum), QC_ERROR_ARGUMENT, "bits is 9");
  REFUSED(qc_sum_alpha(1, X, 7, 0.5f, 2, QC_CEIL, d, NULL), QC_ERROR_NULL, "d_alpha");
  OK(qc_alpha_init(2, QC_NEAREST, &alpha));
  NEAR(alpha, 0.6508, 1e-6);
  OK(qc_alpha_calibrate(X, 7, 2, &alpha));
  NEAR(alpha, 2.0 / 3, 1e-7);
  /* One round from 0.5: nearest codes 0, 0, 0 (0.4), 1, 2 (a tie, up), 3, 3: (0.5 + 1.5 + 4.5 + 6) / 23. */
  alpha = 0.5f;
  OK(qc_alpha_fit(X, 7, 2, QC_NEAREST, 1, &alpha));
  NEAR(alpha, 12.5 / 23, 1e-6);
}

static void base_steps(void) {
  float w[2] = {1.0f, -2.0f}, velocity[2] = {0, 0};
  static const float g[2] = {0.5f, 0.25f}, hard[2] = {1.5f, -1.5f};
  double p = 1, m = 0, v = 0;
  float q = 1, first = 0, second = 0, metric;
  uint64_t steps = 0;
  qc_adam adam;
  int t;
  OK(qc_blend(w, hard, 2, 0.25f));
  CHECK(w[0] == 1.125f && w[1] == -1.875f);
  REFUSED(qc_blend(w, hard, 2, 1.5f), QC_ERROR_ARGUMENT, "rho is 1.5");
  OK(qc_sgd_step(w, g, velocity, 2, 0.5f, 0.5f, 0.0f));
  OK(qc_sgd_step(w, g, velocity, 2, 0.5f, 0.5f, 0.0f));
  /* Velocities g, then 1.5 g. */
  CHECK(w[0] == 1.125f - 0.5f * 2.5f * 0.5f && w[1] == -1.875f - 0.5f * 2.5f * 0.25f);
  REFUSED(qc_sgd_step(w, g, velocity, 2, -1.0f, 0.5f, 0.0f), QC_ERROR_ARGUMENT, "lr is -1");

  OK(qc_adam_init(sizeof adam, &adam));
  CHECK(adam.lr == 0.001f && adam.beta1 == 0.9f);
  adam.lr = 0.1f;
  for (t = 1; t <= 4; t++) {
    float gradient = (float)(t % 3) - 0.75f;
    OK(qc_adam_step(&adam, &q, &gradient, &first, &second, 1, &steps));
    m = 0.9 * m + 0.1 * gradient;
    v = 0.999 * v + 0.001 * gradient * gradient;
    p -= 0.1 * (m / (1 - pow(0.9, t))) / (sqrt(v / (1 - pow(0.999, t))) + 1e-8);
    NEAR(q, p, 1e-5);
    CHECK(steps == (uint64_t)t);
  }
  OK(qc_adam_metric(&adam, &second, 1, steps, &metric));
  NEAR(metric, (sqrt(v / (1 - pow(0.999, 4))) + 1e-8) / 0.1, 1e-4);
  REFUSED(qc_adam_metric(&adam, &second, 1, 0, &metric), QC_ERROR_ARGUMENT, "steps is 0");
  REFUSED(qc_adam_step(&adam, &q, g, &first, &second, 1, NULL), QC_ERROR_NULL, "steps is NULL");
  adam.beta2 = 1.0f;
  REFUSED(qc_adam_step(&adam, &q, g, &first, &second, 1, &steps), QC_ERROR_ARGUMENT, "beta2 is 1");
  CHECK(steps == 4);
}

/* One step of forward and backtrack with binary weights in the metric, on f = sum c (w - t)^2 / 2, against doubles. */
static const double C[3] = {1.0, 4.0, 0.5}, T[3] = {0.3, -0.2, 0.9};

static void binary(const double *w, const double *d, double *to) {
  double above = 0, below = 0;
  int i;
  for (i = 0; i < 3; i++) above += d[i] * fabs(w[i]), below += d[i];
  for (i = 0; i < 3; i++) to[i] = w[i] >= 0 ? above / below : -above / below;
}

static void backtrack(void) {
  float latent[3] = {0.5f, 0.1f, -0.4f}, trial[3], m[3] = {0}, v[3] = {0}, m2[3], v2[3];
  float metric[3] = {1, 1, 1}, metric2[3], w[3], g[3], g2[3], scale;
  double at[3] = {0.5, 0.1, -0.4}, d[3] = {1, 1, 1}, q[3], there[3], slope, first[3], now[3], mean[3];
  uint64_t steps = 0, steps2;
  qc_weight_quantizer lab = of(QC_LOSS_AWARE_BINARY);
  qc_adam adam;
  int i;
  OK(qc_adam_init(sizeof adam, &adam));
  adam.lr = 0.05f, adam.beta1 = 0, adam.beta2 = 0.9f, adam.eps = 1e-3f;

  OK(qc_project_weights(&lab, latent, 1, 3, metric, 0, 0, 0, NULL, w, &scale, 1));
  for (i = 0; i < 3; i++) g[i] = (float)(C[i] * (w[i] - T[i]));
  OK(qc_adam_observe(&adam, latent, g, m, v, 3, &steps));
  OK(qc_adam_metric(&adam, v, 3, steps, metric));
  memcpy(trial, latent, sizeof trial);
  OK(qc_metric_step(trial, g, metric, 3));
  OK(qc_project_weights(&lab, trial, 1, 3, metric, 0, 0, 0, NULL, w, &scale, 1));
  for (i = 0; i < 3; i++) g2[i] = (float)(C[i] * (w[i] - T[i]));
  memcpy(m2, m, sizeof m), memcpy(v2, v, sizeof v), steps2 = steps;
  OK(qc_adam_observe(&adam, trial, g2, m2, v2, 3, &steps2));
  OK(qc_adam_metric(&adam, v2, 3, steps2, metric2));
  OK(qc_combine(g, g2, 3, 0.6f));
  OK(qc_combine(metric, metric2, 3, 0.6f));
  OK(qc_metric_step(latent, g, metric, 3));

  binary(at, d, q);
  for (i = 0; i < 3; i++) {
    first[i] = C[i] * (q[i] - T[i]);
    now[i] = (1e-3 + fabs(first[i])) / 0.05; /* v^ is g^2 in the first step */
    there[i] = at[i] - first[i] / now[i];
  }
  binary(there, now, q);
  for (i = 0; i < 3; i++) {
    slope = C[i] * (q[i] - T[i]);
    mean[i] = 0.9 * 0.1 * first[i] * first[i] + 0.1 * slope * slope;
    d[i] = 0.6 * now[i] + 0.4 * (1e-3 + sqrt(mean[i] / (1 - 0.81))) / 0.05;
    at[i] -= (0.6 * first[i] + 0.4 * slope) / d[i];
    NEAR(metric[i], d[i], 1e-4);
    NEAR(latent[i], at[i], 1e-6);
  }
  REFUSED(qc_combine(g, g2, 3, -0.5f), QC_ERROR_ARGUMENT, "a is -0.5");
}

static void hooks(void) {
  float w[3] = {0.5f, -3.0f, 2.0f}, mean[2] = {0, 0}, b[2] = {1.0f, -1.0f};
  static const float g[2] = {0.6f, 0.6f}, hard[3] = {1.0f, -1.0f, 1.0f};
  float d[3] = {1, 1, 1}, by_step;
  size_t flips = 9, frozen = 9;
  qc_freezer *freezer = NULL;
  int t;
  OK(qc_clip(w, 3, 1.0f));
  CHECK(w[0] == 0.5f && w[1] == -1.0f && w[2] == 1.0f);
  OK(qc_bop_step(b, g, mean, 2, 0.5f, 0.4f, &flips));
  CHECK(flips == 0);
  OK(qc_bop_step(b, g, mean, 2, 0.5f, 0.4f, &flips));
  CHECK(flips == 1 && b[0] == -1.0f && b[1] == -1.0f);
  OK(qc_dampen(w, hard, 3, -1.0f, 0.75f, 0.5f, d));
  CHECK(d[0] == 0.5f && d[1] == 1.0f && d[2] == 1.0f);
  {
    /* Steps of 0.5, 3 bits: 0.6 inside, 10 above 3, -10 below -4. */
    static const float latent[3] = {0.3f, 5.0f, -5.0f};
    float up[3] = {1, 1, 1};
    OK(qc_lsq_backward(latent, 3, 0.5f, 3, up, &by_step));
    CHECK(up[0] == 1 && up[1] == 0 && up[2] == 0);
    NEAR(by_step, (1 - 0.6) + 3 - 4, 1e-6);
    REFUSED(qc_lsq_backward(latent, 3, 0.5f, 1, up, &by_step), QC_ERROR_ARGUMENT, "bits is 1");
  }
  OK(qc_freezer_new(2, 0.5f, 0, &freezer));
  for (t = 0; t < 6; t++) {
    int32_t codes[2];
    float latent[2] = {9.0f, 9.0f};
    codes[0] = t % 2 ? -1 : 1;
    codes[1] = 1;
    OK(qc_freezer_step(freezer, codes, latent, 2, 0.25f, 0.6f, &frozen));
    CHECK(latent[1] == 9.0f);
    CHECK(frozen == (latent[0] != 9.0f) && (frozen == 0 || fabsf(latent[0]) == 0.25f));
  }
  CHECK(frozen == 1);
  REFUSED(qc_freezer_step(freezer, NULL, w, 2, 1.0f, 0.5f, &frozen), QC_ERROR_NULL, "codes");
  REFUSED(qc_freezer_step(NULL, NULL, w, 2, 1.0f, 0.5f, &frozen), QC_ERROR_NULL, "freezer");
  {
    int32_t codes[3] = {0, 0, 0};
    REFUSED(qc_freezer_step(freezer, codes, w, 3, 1.0f, 0.5f, &frozen), QC_ERROR_ARGUMENT,
            "codes is 3 elements long");
  }
  qc_freezer_free(freezer);
  qc_freezer_free(NULL);
  REFUSED(qc_freezer_new(2, 0.5f, 2, &freezer), QC_ERROR_ARGUMENT, "has_zero is 2");
}

int main(void) {
  binary_weights();
  ternary_weights();
  more_levels();
  alternations();
  draws();
  names_and_refusals();
  masks();
  base_steps();
  backtrack();
  hooks();
  printf("steps: all as worked out\n");
  return 0;
}
