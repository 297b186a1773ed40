// XLA's own decoding of a call, by the headers of the installed jaxlib: it tells what it was called with
// as the probe of the Rust module does (ffi_rs/src/xla/probe.rs).

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

static std::string Hex(const void* data, size_t size) {
  std::string text;
  char digits[3];
  for (size_t i = 0; i < size; ++i) {
    snprintf(digits, sizeof digits, "%02x", static_cast<const uint8_t*>(data)[i]);
    text += digits;
  }
  return text;
}

static std::string List(ffi::Span<const int64_t> numbers) {
  std::string text;
  for (int64_t number : numbers) text += std::to_string(number) + ",";
  return text;
}

static std::string Bits(double number) {
  uint64_t bits;
  memcpy(&bits, &number, sizeof bits);
  char digits[17];
  snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(bits));
  return digits;
}

static std::string Kind(ffi::AnyBuffer buffer) {
  return std::to_string(static_cast<int>(buffer.element_type())) + " " + List(buffer.dimensions());
}

static ffi::Error Probe(ffi::RemainingArgs operands, ffi::RemainingRets results, bool flag,
                        int32_t short_number, int64_t long_number, float single_number,
                        double double_number, std::string_view text,
                        ffi::Span<const int64_t> list, int64_t size) {
  std::string told = "flag " + std::to_string(flag) + "\n";
  told += "short " + std::to_string(short_number) + "\nlong " + std::to_string(long_number) + "\n";
  told += "single " + Bits(single_number) + "\ndouble " + Bits(double_number) + "\n";
  told += "text " + Hex(text.data(), text.size()) + "\nlist " + List(list) + "\n";
  for (size_t i = 0; i < operands.size(); ++i) {
    auto operand = operands.get<ffi::AnyBuffer>(i);
    auto copy = results.get<ffi::AnyBuffer>(i + 1);
    if (!operand.has_value() || !copy.has_value()) return ffi::Error::Internal("no such buffer");
    size_t bytes = operand->size_bytes();
    told += "operand " + Kind(*operand) + " " + Hex(operand->untyped_data(), bytes) + "\n";
    if (bytes > 0) memcpy((*copy)->untyped_data(), operand->untyped_data(), bytes);
  }
  for (size_t i = 0; i < results.size(); ++i) {
    auto result = results.get<ffi::AnyBuffer>(i);
    if (!result.has_value()) return ffi::Error::Internal(result.error().message());
    told += "result " + Kind(**result) + "\n";
  }
  auto room = results.get<ffi::Buffer<ffi::U8, 1>>(0);
  if (!room.has_value()) return ffi::Error::Internal(room.error().message());
  if ((*room)->element_count() != static_cast<size_t>(size) || told.size() > size)
    return ffi::Error::InvalidArgument("`size` must be " + std::to_string(told.size()));
  memset((*room)->typed_data(), 0, size);
  memcpy((*room)->typed_data(), told.data(), told.size());
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(probe, Probe,
                              ffi::Ffi::Bind()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<bool>("flag")
                                  .Attr<int32_t>("short")
                                  .Attr<int64_t>("long")
                                  .Attr<float>("single")
                                  .Attr<double>("double")
                                  .Attr<std::string_view>("text")
                                  .Attr<ffi::Span<const int64_t>>("list")
                                  .Attr<int64_t>("size"));
