/* What the programs of layers share: the shape of a convolution, plain or transposed, and its sums, tap by tap. */

#ifndef TAPS_H
#define TAPS_H

#include "check.h"

/* Pairs are vertical, horizontal; padding above, to the left, below, to the right. */
typedef struct shape {
  int32_t transposed, weights, activations, zero_point;
  size_t height, width, channels, o, groups;
  size_t kernel[2], stride[2], dilation[2], padding[4], extra[2];
} shape;

static inline void output_of(const shape *s, size_t out[2]) {
  const size_t in[2] = {s->height, s->width};
  size_t i;
  for (i = 0; i < 2; i++) {
    size_t extent = s->dilation[i] * (s->kernel[i] - 1) + 1, pads = s->padding[i] + s->padding[i + 2];
    out[i] = s->transposed ? (in[i] - 1) * s->stride[i] + extent + s->extra[i] - pads
                           : (in[i] + pads - extent) / s->stride[i] + 1;
  }
}

/* The sums [images, OH, OW, O], which no number here is too large for. A tap joins a pixel with the one at pixel x stride +
 * tap x dilation - padding: a convolution reads there, a transposed one adds there. */
static inline double *sums_of(const shape *s, size_t images, const int32_t *w, const double *x) {
  const size_t in[2] = {s->height, s->width}, c = s->channels / s->groups;
  size_t out[2], image, n, k, p[2], t[2], i, len;
  double *sums;
  output_of(s, out);
  len = images * out[0] * out[1] * s->o;
  sums = (double *)room(len, sizeof(double));
  for (i = 0; i < len; i++) sums[i] = 0;
  for (image = 0; image < images; image++)
    for (p[0] = 0; p[0] < (s->transposed ? in : out)[0]; p[0]++)
      for (p[1] = 0; p[1] < (s->transposed ? in : out)[1]; p[1]++)
        for (t[0] = 0; t[0] < s->kernel[0]; t[0]++)
          for (t[1] = 0; t[1] < s->kernel[1]; t[1]++) {
            size_t far[2];
            const size_t *from, *to, *most = s->transposed ? out : in;
            for (i = 0; i < 2; i++) far[i] = p[i] * s->stride[i] + t[i] * s->dilation[i] - s->padding[i];
            if (far[0] >= most[0] || far[1] >= most[1]) continue;
            from = s->transposed ? p : far;
            to = s->transposed ? far : p;
            for (n = 0; n < s->o; n++)
              for (k = 0; k < c; k++) {
                size_t channel = n / (s->o / s->groups) * c + k;
                double a = x[((image * in[0] + from[0]) * in[1] + from[1]) * s->channels + channel];
                sums[((image * out[0] + to[0]) * out[1] + to[1]) * s->o + n] +=
                    w[((n * s->kernel[0] + t[0]) * s->kernel[1] + t[1]) * c + k] * (a - s->zero_point);
              }
          }
  return sums;
}

/* Everything of the options that a shape has. */
static inline qc_conv2d_options conv_options(const shape *s, packed filters, const qc_finish *finish) {
  qc_conv2d_options options;
  OK(qc_conv2d_options_init(sizeof options, &options));
  options.weight_encoding = s->weights;
  options.activation_encoding = s->activations;
  options.zero_point = s->zero_point;
  options.height = s->height;
  options.width = s->width;
  options.channels = s->channels;
  options.output_channels = s->o;
  options.groups = s->groups;
  memcpy(options.kernel, s->kernel, sizeof s->kernel);
  memcpy(options.stride, s->stride, sizeof s->stride);
  memcpy(options.dilation, s->dilation, sizeof s->dilation);
  memcpy(options.padding, s->padding, sizeof s->padding);
  memcpy(options.output_padding, s->extra, sizeof s->extra);
  options.transposed = s->transposed;
  options.filters = filters.words;
  options.filter_words = filters.n_words;
  options.finish = finish;
  return options;
}

/* Columns of a filter. */
static inline size_t columns_of(const shape *s) {
  return s->kernel[0] * s->kernel[1] * s->channels / s->groups;
}

#endif
