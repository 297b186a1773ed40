/* The C ABI of Lumina-JAX: models, sessions, and operators on tensors of the caller.
 *
 * Every function that can fail answers with a lumina_status, and lumina_last_error tells the calling
 * thread what went wrong. No function prints, exits or throws.
 *
 * Pointers are checked for null, texts for UTF-8, numbers for their range. What cannot be checked is
 * the caller's to keep: a pointer that is not null leads to as much memory as the function says, and
 * a handle is one that a function made and that was not destroyed yet. Results go to the places that
 * are named first or last, and are left as they are, or null, where a call fails.
 *
 * Written by runtime/header-gen. See docs/c.md. */

#ifndef LUMINA_H
#define LUMINA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * The version of the ABI. A program that was compiled for one runs with every library of the same
 * one.
 */
#define LUMINA_ABI_VERSION 1

/**
 * Leave out the checksum of the weights, for which all of them are read from the disk.
 */
#define LUMINA_MAP_SKIP_CHECKSUM 1

/**
 * How a call ended. Numbers below 32 are those of infiniop.
 */
typedef enum {
  /**
   * All was done.
   */
  LUMINA_STATUS_SUCCESS = 0,
  /**
   * A fault of the library.
   */
  LUMINA_STATUS_INTERNAL_ERROR = 1,
  /**
   * The library has no such operator.
   */
  LUMINA_STATUS_NOT_IMPLEMENTED = 2,
  /**
   * An argument is out of its range, or contradicts another.
   */
  LUMINA_STATUS_BAD_PARAM = 3,
  /**
   * A pointer that must not be null is.
   */
  LUMINA_STATUS_NULL_POINTER = 4,
  /**
   * Devices of this type are not supported.
   */
  LUMINA_STATUS_DEVICE_TYPE_NOT_SUPPORTED = 5,
  /**
   * There is no device of that number.
   */
  LUMINA_STATUS_DEVICE_NOT_FOUND = 6,
  /**
   * The device was not initialized.
   */
  LUMINA_STATUS_DEVICE_NOT_INITIALIZED = 7,
  /**
   * The device is too old or too new.
   */
  LUMINA_STATUS_DEVICE_ARCHITECTURE_NOT_SUPPORTED = 8,
  /**
   * The operator does not take tensors of this element type.
   */
  LUMINA_STATUS_BAD_TENSOR_DTYPE = 10,
  /**
   * The shapes of the tensors do not fit the operator, or each other.
   */
  LUMINA_STATUS_BAD_TENSOR_SHAPE = 11,
  /**
   * The strides of a tensor do not fit the operator.
   */
  LUMINA_STATUS_BAD_TENSOR_STRIDES = 12,
  /**
   * The workspace is smaller than the operator asked for.
   */
  LUMINA_STATUS_INSUFFICIENT_WORKSPACE = 13,
  /**
   * A file could not be read, or is no model that this library runs.
   */
  LUMINA_STATUS_BAD_FILE = 32,
  /**
   * More memory than there is, or than the caller allows.
   */
  LUMINA_STATUS_OUT_OF_MEMORY = 33,
  /**
   * The caller cancelled the run.
   */
  LUMINA_STATUS_CANCELLED = 34,
  /**
   * The loops of a run would make more trips than the session allows.
   */
  LUMINA_STATUS_TRIP_LIMIT = 35,
  /**
   * Another thread is in a call with the same session.
   */
  LUMINA_STATUS_BUSY = 36,
} lumina_status;

/**
 * Element types. The numbers are those of infiniop.
 */
typedef enum {
  /**
   * `float32`: 32-bit IEEE float.
   */
  LUMINA_DTYPE_F32 = 13,
  /**
   * `float64`: 64-bit IEEE float.
   */
  LUMINA_DTYPE_F64 = 14,
  /**
   * `float16`: 16-bit IEEE float.
   */
  LUMINA_DTYPE_F16 = 12,
  /**
   * `bfloat16`: upper half of a 32-bit float.
   */
  LUMINA_DTYPE_BF16 = 19,
  /**
   * `complex64`: two f32, real part first.
   */
  LUMINA_DTYPE_C64 = 17,
  /**
   * `complex128`: two f64, real part first.
   */
  LUMINA_DTYPE_C128 = 18,
  /**
   * `int8`: 8-bit signed integer.
   */
  LUMINA_DTYPE_I8 = 3,
  /**
   * `uint8`: 8-bit unsigned integer.
   */
  LUMINA_DTYPE_U8 = 7,
  /**
   * `int16`: 16-bit signed integer.
   */
  LUMINA_DTYPE_I16 = 4,
  /**
   * `int32`: 32-bit signed integer.
   */
  LUMINA_DTYPE_I32 = 5,
  /**
   * `int64`: 64-bit signed integer.
   */
  LUMINA_DTYPE_I64 = 6,
  /**
   * `uint32`: 32-bit unsigned integer.
   */
  LUMINA_DTYPE_U32 = 9,
  /**
   * `bool`: truth value, one byte, 0 or 1.
   */
  LUMINA_DTYPE_BOOL = 2,
} lumina_dtype;

/**
 * How much is told. Each level has what those before it have.
 */
typedef enum {
  /**
   * Nothing, as long as nobody asks.
   */
  LUMINA_LOG_LEVEL_OFF = 0,
  /**
   * What the caller did not ask for and may want to know.
   */
  LUMINA_LOG_LEVEL_WARNING = 1,
  /**
   * What takes time or memory: models that are loaded, plans that are made, buffers that grow.
   */
  LUMINA_LOG_LEVEL_DEBUG = 2,
} lumina_log_level;

/**
 * What an input means beyond its type.
 */
typedef enum {
  /**
   * Nothing.
   */
  LUMINA_ROLE_PLAIN = 0,
  /**
   * Two words of 32 bits, the high one first: the seed of the analog noise.
   */
  LUMINA_ROLE_NOISE_SEED = 1,
} lumina_role;

/**
 * A `.lmn` file, all of which has been checked. Any number of threads may use it at once.
 */
typedef struct lumina_model lumina_model;

/**
 * A model with threads, buffers and states of its own.
 *
 * One thread at a time uses a session: a call while another is in one is LUMINA_STATUS_BUSY and does
 * nothing. Only `lumina_session_cancel` may come at any time. Sessions of one model share its
 * weights.
 */
typedef struct lumina_session lumina_session;

/**
 * Gets a message of that `lumina_log_level`, in UTF-8 and valid during the call. It is called by
 * the thread that does the work, by several at once where several work, and must return.
 */
typedef void (*lumina_log_callback)(void *user_data, int32_t level, const char *message);

/**
 * What is known of an input, an output or a state. The pointers are valid as long as the model or a
 * session of it is there.
 */
typedef struct {
  /**
   * `sizeof` of this struct, which the caller sets.
   */
  size_t struct_size;
  /**
   * The name, in UTF-8.
   */
  const char *name;
  /**
   * The element type, a `lumina_dtype`.
   */
  int32_t dtype;
  /**
   * What an input means beyond its type, a `lumina_role`.
   */
  int32_t role;
  /**
   * Number of axes.
   */
  size_t rank;
  /**
   * The extent of each axis; -1 where the shapes of the inputs of a run decide it.
   */
  const int64_t *shape;
  /**
   * What decides the extent of each axis whose extent is -1, such as "batch" or "2*batch"; null
   * for all other axes.
   */
  const char *const *symbols;
} lumina_tensor_info;

/**
 * How a session runs. `lumina_session_options_init` fills it with what is usual.
 */
typedef struct {
  /**
   * `sizeof` of this struct.
   */
  size_t struct_size;
  /**
   * Threads; 0 is one per core, and usual.
   */
  size_t threads;
  /**
   * Most bytes that the buffers of the session may take, what it keeps of the weights in another
   * form, and, apart from those, its copies of inputs. Usual are 4 GiB.
   */
  uint64_t memory_limit;
  /**
   * Most trips that all loops of a run may make together. Usual are 2^32.
   */
  uint64_t trip_limit;
} lumina_session_options;

/**
 * A tensor in memory. This struct stays as it is: arrays of it are passed.
 */
typedef struct {
  /**
   * The element whose index is 0 along each axis. Not read where there are no elements. What is
   * only read, such as an input, is never written.
   */
  void *data;
  /**
   * Number of axes, at most 8.
   */
  size_t rank;
  /**
   * Extent of each axis; may be null where there are none.
   */
  const size_t *shape;
  /**
   * Elements from one index of each axis to the next, which may be 0 or negative; null:
   * row-major.
   */
  const ptrdiff_t *strides;
  /**
   * A `lumina_dtype`.
   */
  int32_t dtype;
} lumina_tensor;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the ABI that this library has: LUMINA_ABI_VERSION of its header.
 */
uint32_t lumina_abi_version(void);

/**
 * The version of the library, such as "0.1.0".
 */
const char *lumina_version(void);

/**
 * Calls `callback` with `user_data` for each message up to `level` from now on, in the whole program;
 * a null callback or LUMINA_LOG_LEVEL_OFF ends that. Without it the library says nothing.
 *
 * A call that another thread has begun may still come after this function has returned, so
 * `user_data` stays valid for as long as any thread is in a call of the library.
 */
lumina_status lumina_set_log_callback(lumina_log_callback callback,
                                      void *user_data,
                                      int32_t level);

/**
 * Reads and checks the file at `path` and makes `*model` a handle of it.
 *
 * On failure, `*model` is null; so it is for all functions that load.
 */
lumina_status lumina_model_load(const char *path, lumina_model **model);

/**
 * Copies the `size` bytes of a file at `data`, checks them, and makes `*model` a handle of them.
 */
lumina_status lumina_model_from_memory(const void *data, size_t size, lumina_model **model);

/**
 * Maps the file at `path` to memory, checks it, and makes `*model` a handle of it. Weights are used
 * where the system keeps them and come from the disk as they are needed.
 *
 * Nothing may change the file or make it shorter while the model is there: of a file that changes,
 * the outputs are of no use, and one that gets shorter ends the program by the signal SIGBUS.
 * `flags` is 0 or LUMINA_MAP_SKIP_CHECKSUM.
 */
lumina_status lumina_model_map(const char *path, uint32_t flags, lumina_model **model);

/**
 * Frees a handle; null is none. What sessions of the model use stays until they are destroyed.
 */
lumina_status lumina_model_free(lumina_model *model);

/**
 * Makes `*count` the number of entry points, the functions in a file. There is at least one; number 0
 * is the one that sessions begin with.
 */
lumina_status lumina_model_entry_count(const lumina_model *model,
                                       size_t *count);

/**
 * Makes `*name` the name of entry point number `entry`; it is valid as long as the model or a session
 * of it is there. The only entry point of a file may have an empty one.
 */
lumina_status lumina_model_entry_name(const lumina_model *model,
                                      size_t entry,
                                      const char **name);

/**
 * Makes `*entry` the number of the entry point of that name.
 */
lumina_status lumina_model_find_entry(const lumina_model *model, const char *name, size_t *entry);

/**
 * Makes `*count` the number of inputs of that entry point.
 */
lumina_status lumina_model_input_count(const lumina_model *model, size_t entry, size_t *count);

/**
 * Fills `*info`, whose `struct_size` the caller has set, with what is known
 * of input number `index` of that entry point.
 */
lumina_status lumina_model_input_info(const lumina_model *model,
                                      size_t entry,
                                      size_t index,
                                      lumina_tensor_info *info);

/**
 * Makes `*index` the number of the input of that name.
 */
lumina_status lumina_model_find_input(const lumina_model *model,
                                      size_t entry,
                                      const char *name,
                                      size_t *index);

/**
 * Makes `*count` the number of outputs of that entry point.
 */
lumina_status lumina_model_output_count(const lumina_model *model, size_t entry, size_t *count);

/**
 * Fills `*info`, whose `struct_size` the caller has set, with what is known
 * of output number `index` of that entry point.
 */
lumina_status lumina_model_output_info(const lumina_model *model,
                                       size_t entry,
                                       size_t index,
                                       lumina_tensor_info *info);

/**
 * Makes `*index` the number of the output of that name.
 */
lumina_status lumina_model_find_output(const lumina_model *model,
                                       size_t entry,
                                       const char *name,
                                       size_t *index);

/**
 * Makes `*count` the number of values that a session of the model keeps from one run to the next.
 */
lumina_status lumina_model_state_count(const lumina_model *model, size_t *count);

/**
 * Fills `*info`, whose `struct_size` the caller has set, with what is known of state number `index`.
 */
lumina_status lumina_model_state_info(const lumina_model *model,
                                      size_t index,
                                      lumina_tensor_info *info);

/**
 * Fills `*options` with what is usual; `struct_size` is `sizeof *options`.
 */
lumina_status lumina_session_options_init(lumina_session_options *options, size_t struct_size);

/**
 * Makes `*session` a session of `model`, which may be freed meanwhile. Null options are what
 * `lumina_session_options_init` says. On failure, `*session` is null.
 */
lumina_status lumina_session_create(const lumina_model *model,
                                    const lumina_session_options *options,
                                    lumina_session **session);

/**
 * Destroys a session and all memory that it lent; null is none. A session that is in a call stays,
 * and the answer is LUMINA_STATUS_BUSY.
 */
lumina_status lumina_session_destroy(lumina_session *session);

/**
 * Runs entry point number `entry` from now on. Inputs that were set are forgotten, and so are the
 * outputs of the last run; states stay, which all entry points share.
 */
lumina_status lumina_session_set_entry(lumina_session *session, size_t entry);

/**
 * Has each run read input number `index` from `tensor`, wherever the call of the run gives no other.
 * The struct, shape and strides are copied; the elements are read by each run and stay the caller's.
 * Null sets nothing any more.
 */
lumina_status lumina_session_set_input(lumina_session *session,
                                       size_t index,
                                       const lumina_tensor *tensor);

/**
 * As `lumina_session_set_input`, of the input of that name.
 */
lumina_status lumina_session_set_named_input(lumina_session *session,
                                             const char *name,
                                             const lumina_tensor *tensor);

/**
 * Draws the analog noise of each run from `seed`, as `jax.random.key(seed)` in training would,
 * wherever an input whose role is LUMINA_ROLE_NOISE_SEED is given no other way. Runs of one seed have
 * the same noise: give each run a seed of its own where it is to differ.
 */
lumina_status lumina_session_set_noise_seed(lumina_session *session,
                                            uint64_t seed);

/**
 * Plans a run for inputs of these types and shapes, whose elements are not read, and allocates its
 * memory, so that the first run is as fast as those that follow. Inputs are given as to
 * `lumina_session_run`. Each of `outputs`, of which there are none or all, becomes the type and shape
 * of an output, without data.
 */
lumina_status lumina_session_prepare(lumina_session *session,
                                     const lumina_tensor *inputs,
                                     size_t input_count,
                                     lumina_tensor *outputs,
                                     size_t output_count);

/**
 * Runs the entry point on `inputs`, in the order of the model, and gives its `outputs`.
 *
 * There are all inputs or none. One that is all zero, and each where there are none, is that of
 * `lumina_session_set_input`, or the seed of `lumina_session_set_noise_seed`. Row-major inputs are
 * read where they lie; others are copied first.
 *
 * There are all outputs or none; `lumina_session_get_output` gives them later, too. One whose `data`
 * is null, or that of the view which the session gave before, becomes a view of memory of the session,
 * row-major, which is not to be written. It is valid until the next call that runs, prepares, changes
 * the entry point or destroys, and may be an input of that run. (Where the model passes an input on,
 * the view is of the memory of that input.) All others say type and shape of memory of the caller,
 * which gets the elements; it may be that of an input.
 *
 * A run that fails or is cancelled before it computes changes nothing. One that fails or is cancelled
 * later leaves the states of the model half written, so the next one is refused until
 * `lumina_session_reset`.
 */
lumina_status lumina_session_run(lumina_session *session,
                                 const lumina_tensor *inputs,
                                 size_t input_count,
                                 lumina_tensor *outputs,
                                 size_t output_count);

/**
 * Gives output number `index` of the last run, in the way of `lumina_session_run`.
 */
lumina_status lumina_session_get_output(lumina_session *session,
                                        size_t index,
                                        lumina_tensor *tensor);

/**
 * As `lumina_session_get_output`, of the output of that name.
 */
lumina_status lumina_session_get_named_output(lumina_session *session,
                                              const char *name,
                                              lumina_tensor *tensor);

/**
 * Gives the state of that name as it is now: a view, valid until the next call that runs, prepares,
 * sets, resets or destroys, where `data` is null or that of the view before, and else the elements in
 * memory of the caller.
 */
lumina_status lumina_session_get_state(lumina_session *session,
                                       const char *name,
                                       lumina_tensor *tensor);

/**
 * Copies `tensor` to the state of that name.
 */
lumina_status lumina_session_set_state(lumina_session *session,
                                       const char *name,
                                       const lumina_tensor *tensor);

/**
 * Gives all states the values again that they have in a new session.
 */
lumina_status lumina_session_reset(lumina_session *session);

/**
 * Ends the run that is going on in another thread, or else the next one, with
 * LUMINA_STATUS_CANCELLED. A run looks between its steps, so one that is in its last step ends as if
 * nobody had asked. The session must not be destroyed meanwhile.
 */
lumina_status lumina_session_cancel(const lumina_session *session);

/**
 * What went wrong in the last call of this thread that failed; empty if none has. The text is valid
 * until the next call of this thread fails.
 */
const char *lumina_last_error(void);

/**
 * The name of that type in NumPy, such as "float32"; null where there is no such type.
 */
const char *lumina_dtype_name(int32_t dtype);

/**
 * Bytes of an element of that type; 0 where there is no such type.
 */
size_t lumina_dtype_size(int32_t dtype);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LUMINA_H */
