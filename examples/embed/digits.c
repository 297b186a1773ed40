/* Classifies handwritten digits with a model that was trained in JAX.
 *
 *     digits model.lmn images.f32 labels.u8
 */

#include <lumina.h>

#include <stdio.h>
#include <stdlib.h>

enum { PIXELS = 64, DIGITS = 10 };

/* Says what failed and ends the program. */
static void check(lumina_status status, const char *what) {
  if (status != LUMINA_STATUS_SUCCESS) {
    fprintf(stderr, "%s: status %d: %s\n", what, (int)status, lumina_last_error());
    exit(EXIT_FAILURE);
  }
}

/* The bytes of a file, and how many there are. */
static void *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  unsigned char *bytes = NULL;
  size_t room = 0, got;
  *size = 0;
  if (file == NULL) {
    perror(path);
    exit(EXIT_FAILURE);
  }
  do {
    if (*size == room) {
      room = room ? 2 * room : 4096;
      bytes = realloc(bytes, room);
      if (bytes == NULL) {
        fprintf(stderr, "%s: out of memory\n", path);
        exit(EXIT_FAILURE);
      }
    }
    got = fread(bytes + *size, 1, room - *size, file);
    *size += got;
  } while (got > 0);
  fclose(file);
  return bytes;
}

static int best(const float *logits) {
  int at = 0;
  for (int digit = 1; digit < DIGITS; digit++)
    if (logits[digit] > logits[at]) at = digit;
  return at;
}

/* Prints name and shape of the only input. */
static void describe(const lumina_model *model) {
  lumina_tensor_info info = {.struct_size = sizeof info};
  check(lumina_model_input_info(model, 0, 0, &info), "input");
  printf("input `%s` has shape (", info.name);
  for (size_t axis = 0; axis < info.rank; axis++) {
    if (axis > 0) printf(", ");
    if (info.shape[axis] < 0) printf("%s", info.symbols[axis]);
    else printf("%lld", (long long)info.shape[axis]);
  }
  printf(")\n");
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: %s model.lmn images.f32 labels.u8\n", argv[0]);
    return EXIT_FAILURE;
  }
  size_t bytes, count;
  float *images = read_file(argv[2], &bytes);
  unsigned char *labels = read_file(argv[3], &count);
  if (bytes != count * PIXELS * sizeof(float)) {
    fprintf(stderr, "%s has not one image for each label\n", argv[2]);
    return EXIT_FAILURE;
  }

  lumina_model *model;
  lumina_session *session;
  check(lumina_model_load(argv[1], &model), "load");
  describe(model);
  check(lumina_session_create(model, NULL, &session), "session");
  /* The session keeps what it needs of the model. */
  check(lumina_model_free(model), "free");

  /* All images at once; the result is a view of memory of the session. */
  const size_t batch_shape[] = {count, PIXELS};
  lumina_tensor input = {
      .data = images, .rank = 2, .shape = batch_shape, .dtype = LUMINA_DTYPE_F32};
  lumina_tensor output = {0};
  check(lumina_session_run(session, &input, 1, &output, 1), "run");
  const float *logits = output.data;
  size_t right = 0;
  for (size_t n = 0; n < count; n++) right += best(logits + n * DIGITS) == labels[n];
  printf("%zu of %zu digits are right\n", right, count);

  /* One image at a time, from last pixel to first and back, into memory of our own. */
  const size_t image_shape[] = {1, PIXELS}, logits_shape[] = {1, DIGITS};
  const ptrdiff_t backwards[] = {PIXELS, -1};
  float reversed[PIXELS], own[DIGITS];
  size_t same = 0;
  for (size_t n = 0; n < count; n++) {
    for (int pixel = 0; pixel < PIXELS; pixel++)
      reversed[PIXELS - 1 - pixel] = images[n * PIXELS + (size_t)pixel];
    lumina_tensor one = {.data = &reversed[PIXELS - 1],
                         .rank = 2,
                         .shape = image_shape,
                         .strides = backwards,
                         .dtype = LUMINA_DTYPE_F32};
    lumina_tensor result = {
        .data = own, .rank = 2, .shape = logits_shape, .dtype = LUMINA_DTYPE_F32};
    check(lumina_session_run(session, &one, 1, &result, 1), "run");
    same += best(own) == labels[n];
  }
  printf("one at a time, %zu are\n", same);

  check(lumina_session_destroy(session), "destroy");
  free(images);
  free(labels);
  return same == right ? EXIT_SUCCESS : EXIT_FAILURE;
}
