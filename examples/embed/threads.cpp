// Eight threads classify digits, each with a session of its own of one model; and a file that is no
// model is an error that is caught.
//
//     threads model.lmn images.f32 labels.u8

#include <lumina.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t pixels = 64, digits = 10, threads = 8;

void check(lumina_status status) {
  if (status != LUMINA_STATUS_SUCCESS) throw std::runtime_error(lumina_last_error());
}

struct Free {
  void operator()(lumina_model *model) const { lumina_model_free(model); }
  void operator()(lumina_session *session) const { lumina_session_destroy(session); }
};

using Model = std::unique_ptr<lumina_model, Free>;
using Session = std::unique_ptr<lumina_session, Free>;

Model load(const std::vector<char> &file) {
  lumina_model *model = nullptr;
  check(lumina_model_from_memory(file.data(), file.size(), &model));
  return Model(model);
}

Session session_of(const Model &model) {
  lumina_session_options options;
  check(lumina_session_options_init(&options, sizeof options));
  // The threads of this program are enough.
  options.threads = 1;
  lumina_session *session = nullptr;
  check(lumina_session_create(model.get(), &options, &session));
  return Session(session);
}

std::vector<char> read(const char *path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(std::string("cannot open ") + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// How many of these images are classified as their labels say.
std::size_t right(const Model &model, const char *images, const char *labels, std::size_t count) {
  const Session session = session_of(model);
  const std::size_t shape[] = {count, pixels}, logits_shape[] = {count, digits};
  std::vector<float> logits(count * digits);
  // What is only read is not written, const or not.
  lumina_tensor input{const_cast<char *>(images), 2, shape, nullptr, LUMINA_DTYPE_F32};
  lumina_tensor output{logits.data(), 2, logits_shape, nullptr, LUMINA_DTYPE_F32};
  check(lumina_session_run(session.get(), &input, 1, &output, 1));
  std::size_t right = 0;
  for (std::size_t n = 0; n < count; ++n) {
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>(n * digits);
    const auto best = std::max_element(row, row + digits) - row;
    right += best == static_cast<unsigned char>(labels[n]);
  }
  return right;
}

int run(const char *model_path, const char *images_path, const char *labels_path) {
  const std::vector<char> file = read(model_path), images = read(images_path);
  const std::vector<char> labels = read(labels_path);
  constexpr std::size_t size = pixels * sizeof(float);
  if (images.size() != labels.size() * size)
    throw std::runtime_error("there is not one image for each label");

  const Model model = load(file);
  std::atomic<std::size_t> total{0}, failures{0};
  std::vector<std::thread> workers;
  const std::size_t share = (labels.size() + threads - 1) / threads;
  for (std::size_t first = 0; first < labels.size(); first += share) {
    workers.emplace_back([&, first] {
      try {
        const std::size_t count = std::min(share, labels.size() - first);
        total += right(model, images.data() + first * size, labels.data() + first, count);
      } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        ++failures;
      }
    });
  }
  for (std::thread &worker : workers) worker.join();
  std::printf("%zu threads: %zu of %zu digits are right\n", workers.size(), total.load(),
              labels.size());

  // One byte of the file is another one, so it is refused, and the program goes on.
  std::vector<char> hostile = file;
  hostile[hostile.size() / 2] ^= 1;
  try {
    load(hostile);
    ++failures;
  } catch (const std::exception &error) {
    std::printf("a file with a wrong byte: %s\n", error.what());
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s model.lmn images.f32 labels.u8\n", argv[0]);
    return 1;
  }
  try {
    return run(argv[1], argv[2], argv[3]);
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
