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
 * What a call of the operator runs.
 */
typedef struct InfiniopPrograms InfiniopPrograms;

/**
 * Element type, shape and strides of a tensor.
 */
typedef struct InfiniopTensorDescriptor InfiniopTensorDescriptor;

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
 * An operator for tensors of certain layouts.
 */
typedef struct {
  int device;
  int device_id;
  uint64_t magic;
  InfiniopPrograms *body;
} InfiniopDescriptor;

/**
 * What operators are created with: the device that they run on.
 */
typedef struct {
  int device;
  int device_id;
  uint64_t magic;
} InfiniopHandle;

/**
 * A pointer to a handle.
 */
typedef InfiniopHandle *infiniopHandle_t;

/**
 * A stream, which may be null.
 */
typedef void *infinirtStream_t;

/**
 * An event.
 */
typedef void *infinirtEvent_t;

/**
 * A pointer to the descriptor of a tensor.
 */
typedef InfiniopTensorDescriptor *infiniopTensorDescriptor_t;

/**
 * How a session runs. `lumina_session_options_init` fills it with what is usual.
 */
typedef struct {
  /**
   * `sizeof` of this struct.
   */
  size_t struct_size;
  /**
   * Threads, at most 1024; 0 is one per core, and usual.
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
 * Which type of device the operator runs on: 0, the CPU.
 */
lumina_status infiniopGetDescriptorDeviceType(const InfiniopDescriptor *desc_ptr, int *device_type);

/**
 * Which device of its type the operator runs on: 0.
 */
lumina_status infiniopGetDescriptorDeviceId(const InfiniopDescriptor *desc_ptr, int *device_id);

/**
 * Makes a handle of the device that this thread has set.
 */
lumina_status infiniopCreateHandle(infiniopHandle_t *handle_ptr);

/**
 * Frees a handle. Operators that were created with it do not need it.
 */
lumina_status infiniopDestroyHandle(infiniopHandle_t handle);

/**
 * Does nothing: the device needs no preparation.
 */
lumina_status infinirtInit(void);

/**
 * Writes how many devices there are of each of the 11 types.
 */
lumina_status infinirtGetAllDeviceCount(int *count_array);

/**
 * Writes how many devices of that type there are: 1 CPU, and none of any other.
 */
lumina_status infinirtGetDeviceCount(int device, int *count);

/**
 * Sets the device of this thread, of which there is one.
 */
lumina_status infinirtSetDevice(int device, int device_id);

/**
 * Writes type and number of the device of this thread. Either may be null.
 */
lumina_status infinirtGetDevice(int *device_ptr, int *device_id_ptr);

/**
 * Returns at once: calls have done their work when they return.
 */
lumina_status infinirtDeviceSynchronize(void);

/**
 * Makes a stream.
 */
lumina_status infinirtStreamCreate(infinirtStream_t *stream_ptr);

/**
 * Does nothing.
 */
lumina_status infinirtStreamDestroy(infinirtStream_t stream);

/**
 * Returns at once.
 */
lumina_status infinirtStreamSynchronize(infinirtStream_t stream);

/**
 * Returns at once: what an event was recorded after is done.
 */
lumina_status infinirtStreamWaitEvent(infinirtStream_t stream, infinirtEvent_t event);

/**
 * Makes an event.
 */
lumina_status infinirtEventCreate(infinirtEvent_t *event_ptr);

/**
 * Makes an event; flags change nothing.
 */
lumina_status infinirtEventCreateWithFlags(infinirtEvent_t *event_ptr, uint32_t flags);

/**
 * Records the time.
 */
lumina_status infinirtEventRecord(infinirtEvent_t event, infinirtStream_t stream);

/**
 * Writes 0: what the event was recorded after is done.
 */
lumina_status infinirtEventQuery(infinirtEvent_t event, int *status_ptr);

/**
 * Returns at once.
 */
lumina_status infinirtEventSynchronize(infinirtEvent_t event);

/**
 * Frees an event.
 */
lumina_status infinirtEventDestroy(infinirtEvent_t event);

/**
 * Writes the milliseconds between two events, both of which were recorded.
 */
lumina_status infinirtEventElapsedTime(float *ms_ptr, infinirtEvent_t start, infinirtEvent_t end);

/**
 * Streams are not recorded.
 */
lumina_status infinirtStreamBeginCapture(infinirtStream_t stream, int mode);

/**
 * Streams are not recorded.
 */
lumina_status infinirtStreamEndCapture(infinirtStream_t stream, void **graph_ptr);

/**
 * There are no graphs.
 */
lumina_status infinirtGraphDestroy(void *graph);

/**
 * There are no graphs.
 */
lumina_status infinirtGraphInstantiate(void **graph_exec_ptr,
                                       void *graph,
                                       void **node_ptr,
                                       char *log_buffer,
                                       size_t buffer_size);

/**
 * There are no graphs.
 */
lumina_status infinirtGraphExecDestroy(void *graph_exec);

/**
 * There are no graphs. The interface spells the name so.
 */
lumina_status infinirtGraphLuanch(void *graph_exec, infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateAddDescriptor(infiniopHandle_t handle,
                                          InfiniopDescriptor **desc_ptr,
                                          infiniopTensorDescriptor_t c,
                                          infiniopTensorDescriptor_t a,
                                          infiniopTensorDescriptor_t b);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyAddDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetAddWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopAdd(InfiniopDescriptor *desc,
                          void *workspace,
                          size_t workspace_size,
                          void *c,
                          const void *a,
                          const void *b,
                          infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateSubDescriptor(infiniopHandle_t handle,
                                          InfiniopDescriptor **desc_ptr,
                                          infiniopTensorDescriptor_t c,
                                          infiniopTensorDescriptor_t a,
                                          infiniopTensorDescriptor_t b);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroySubDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetSubWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopSub(InfiniopDescriptor *desc,
                          void *workspace,
                          size_t workspace_size,
                          void *c,
                          const void *a,
                          const void *b,
                          infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateMulDescriptor(infiniopHandle_t handle,
                                          InfiniopDescriptor **desc_ptr,
                                          infiniopTensorDescriptor_t c,
                                          infiniopTensorDescriptor_t a,
                                          infiniopTensorDescriptor_t b);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyMulDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetMulWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopMul(InfiniopDescriptor *desc,
                          void *workspace,
                          size_t workspace_size,
                          void *c,
                          const void *a,
                          const void *b,
                          infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateReluDescriptor(infiniopHandle_t handle,
                                           InfiniopDescriptor **desc_ptr,
                                           infiniopTensorDescriptor_t y,
                                           infiniopTensorDescriptor_t x);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyReluDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetReluWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopRelu(InfiniopDescriptor *desc,
                           void *workspace,
                           size_t workspace_size,
                           void *y,
                           const void *x,
                           infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateGeluDescriptor(infiniopHandle_t handle,
                                           InfiniopDescriptor **desc_ptr,
                                           infiniopTensorDescriptor_t y,
                                           infiniopTensorDescriptor_t x);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyGeluDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetGeluWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopGelu(InfiniopDescriptor *desc,
                           void *workspace,
                           size_t workspace_size,
                           void *y,
                           const void *x,
                           infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateGeluTanhDescriptor(infiniopHandle_t handle,
                                               InfiniopDescriptor **desc_ptr,
                                               infiniopTensorDescriptor_t y,
                                               infiniopTensorDescriptor_t x);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyGeluTanhDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetGeluTanhWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopGeluTanh(InfiniopDescriptor *desc,
                               void *workspace,
                               size_t workspace_size,
                               void *y,
                               const void *x,
                               infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateQuickGeluDescriptor(infiniopHandle_t handle,
                                                InfiniopDescriptor **desc_ptr,
                                                infiniopTensorDescriptor_t y,
                                                infiniopTensorDescriptor_t x);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyQuickGeluDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetQuickGeluWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopQuickGelu(InfiniopDescriptor *desc,
                                void *workspace,
                                size_t workspace_size,
                                void *y,
                                const void *x,
                                infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateSiluDescriptor(infiniopHandle_t handle,
                                           InfiniopDescriptor **desc_ptr,
                                           infiniopTensorDescriptor_t y,
                                           infiniopTensorDescriptor_t x);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroySiluDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetSiluWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopSilu(InfiniopDescriptor *desc,
                           void *workspace,
                           size_t workspace_size,
                           void *y,
                           const void *x,
                           infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateSigmoidDescriptor(infiniopHandle_t handle,
                                              InfiniopDescriptor **desc_ptr,
                                              infiniopTensorDescriptor_t y,
                                              infiniopTensorDescriptor_t x);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroySigmoidDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetSigmoidWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopSigmoid(InfiniopDescriptor *desc,
                              void *workspace,
                              size_t workspace_size,
                              void *y,
                              const void *x,
                              infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateTanhDescriptor(infiniopHandle_t handle,
                                           InfiniopDescriptor **desc_ptr,
                                           infiniopTensorDescriptor_t y,
                                           infiniopTensorDescriptor_t x);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyTanhDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetTanhWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopTanh(InfiniopDescriptor *desc,
                           void *workspace,
                           size_t workspace_size,
                           void *y,
                           const void *x,
                           infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateSoftplusDescriptor(infiniopHandle_t handle,
                                               InfiniopDescriptor **desc_ptr,
                                               infiniopTensorDescriptor_t y,
                                               infiniopTensorDescriptor_t x,
                                               float beta,
                                               float threshold);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroySoftplusDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetSoftplusWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopSoftplus(InfiniopDescriptor *desc,
                               void *workspace,
                               size_t workspace_size,
                               void *y,
                               const void *x,
                               infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateClipDescriptor(infiniopHandle_t handle,
                                           InfiniopDescriptor **desc_ptr,
                                           infiniopTensorDescriptor_t y,
                                           infiniopTensorDescriptor_t x,
                                           infiniopTensorDescriptor_t min,
                                           infiniopTensorDescriptor_t max);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyClipDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetClipWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopClip(InfiniopDescriptor *desc,
                           void *workspace,
                           size_t workspace_size,
                           void *y,
                           const void *x,
                           const void *min,
                           const void *max,
                           infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateSwiGLUDescriptor(infiniopHandle_t handle,
                                             InfiniopDescriptor **desc_ptr,
                                             infiniopTensorDescriptor_t c,
                                             infiniopTensorDescriptor_t a,
                                             infiniopTensorDescriptor_t b);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroySwiGLUDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetSwiGLUWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopSwiGLU(InfiniopDescriptor *desc,
                             void *workspace,
                             size_t workspace_size,
                             void *c,
                             const void *a,
                             const void *b,
                             infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateSoftmaxDescriptor(infiniopHandle_t handle,
                                              InfiniopDescriptor **desc_ptr,
                                              infiniopTensorDescriptor_t y,
                                              infiniopTensorDescriptor_t x,
                                              int axis);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroySoftmaxDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetSoftmaxWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopSoftmax(InfiniopDescriptor *desc,
                              void *workspace,
                              size_t workspace_size,
                              void *y,
                              const void *x,
                              infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateLogSoftmaxDescriptor(infiniopHandle_t handle,
                                                 InfiniopDescriptor **desc_ptr,
                                                 infiniopTensorDescriptor_t y,
                                                 infiniopTensorDescriptor_t x,
                                                 int dim);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyLogSoftmaxDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetLogSoftmaxWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopLogSoftmax(InfiniopDescriptor *desc,
                                 void *workspace,
                                 size_t workspace_size,
                                 void *y,
                                 const void *x,
                                 infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateCausalSoftmaxDescriptor(infiniopHandle_t handle,
                                                    InfiniopDescriptor **desc_ptr,
                                                    infiniopTensorDescriptor_t y,
                                                    infiniopTensorDescriptor_t x);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyCausalSoftmaxDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetCausalSoftmaxWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopCausalSoftmax(InfiniopDescriptor *desc,
                                    void *workspace,
                                    size_t workspace_size,
                                    void *y,
                                    const void *x,
                                    infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateLayerNormDescriptor(infiniopHandle_t handle,
                                                InfiniopDescriptor **desc_ptr,
                                                infiniopTensorDescriptor_t y,
                                                infiniopTensorDescriptor_t standardized,
                                                infiniopTensorDescriptor_t deviation,
                                                infiniopTensorDescriptor_t x,
                                                infiniopTensorDescriptor_t weight,
                                                infiniopTensorDescriptor_t bias,
                                                float eps);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyLayerNormDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetLayerNormWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopLayerNorm(InfiniopDescriptor *desc,
                                void *workspace,
                                size_t workspace_size,
                                void *y,
                                void *standardized,
                                void *deviation,
                                const void *x,
                                const void *weight,
                                const void *bias,
                                infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateRMSNormDescriptor(infiniopHandle_t handle,
                                              InfiniopDescriptor **desc_ptr,
                                              infiniopTensorDescriptor_t y,
                                              infiniopTensorDescriptor_t x,
                                              infiniopTensorDescriptor_t w,
                                              float eps);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyRMSNormDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetRMSNormWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopRMSNorm(InfiniopDescriptor *desc,
                              void *workspace,
                              size_t workspace_size,
                              void *y,
                              const void *x,
                              const void *w,
                              infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateAddRMSNormDescriptor(infiniopHandle_t handle,
                                                 InfiniopDescriptor **desc_ptr,
                                                 infiniopTensorDescriptor_t y,
                                                 infiniopTensorDescriptor_t residual_out,
                                                 infiniopTensorDescriptor_t a,
                                                 infiniopTensorDescriptor_t b,
                                                 infiniopTensorDescriptor_t weight,
                                                 float eps);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyAddRMSNormDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetAddRMSNormWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopAddRMSNorm(InfiniopDescriptor *desc,
                                 void *workspace,
                                 size_t workspace_size,
                                 void *y,
                                 void *residual_out,
                                 const void *a,
                                 const void *b,
                                 const void *weight,
                                 infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateSumDescriptor(infiniopHandle_t handle,
                                          InfiniopDescriptor **desc_ptr,
                                          infiniopTensorDescriptor_t output,
                                          infiniopTensorDescriptor_t input,
                                          const size_t *dims,
                                          size_t count,
                                          bool keepdim);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroySumDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetSumWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopSum(InfiniopDescriptor *desc,
                          void *workspace,
                          size_t workspace_size,
                          void *output,
                          const void *input,
                          const size_t *dims,
                          size_t count,
                          bool keepdim,
                          infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateTopKDescriptor(infiniopHandle_t handle,
                                           InfiniopDescriptor **desc_ptr,
                                           infiniopTensorDescriptor_t values,
                                           infiniopTensorDescriptor_t indices,
                                           infiniopTensorDescriptor_t input,
                                           size_t k,
                                           size_t dim,
                                           bool largest,
                                           bool sorted);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyTopKDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetTopKWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopTopK(InfiniopDescriptor *desc,
                           void *workspace,
                           size_t workspace_size,
                           void *values,
                           void *indices,
                           const void *input,
                           size_t k,
                           size_t dim,
                           bool largest,
                           bool sorted,
                           infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateGemmDescriptor(infiniopHandle_t handle,
                                           InfiniopDescriptor **desc_ptr,
                                           infiniopTensorDescriptor_t c,
                                           infiniopTensorDescriptor_t a,
                                           infiniopTensorDescriptor_t b);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyGemmDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetGemmWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopGemm(InfiniopDescriptor *desc,
                           void *workspace,
                           size_t workspace_size,
                           void *c,
                           const void *a,
                           const void *b,
                           float alpha,
                           float beta,
                           infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateConvDescriptor(infiniopHandle_t handle,
                                           InfiniopDescriptor **desc_ptr,
                                           infiniopTensorDescriptor_t y,
                                           infiniopTensorDescriptor_t x,
                                           infiniopTensorDescriptor_t w,
                                           infiniopTensorDescriptor_t bias,
                                           const int64_t *pads,
                                           const int64_t *strides,
                                           const int64_t *dilations,
                                           size_t n);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyConvDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetConvWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopConv(InfiniopDescriptor *desc,
                           void *workspace,
                           size_t workspace_size,
                           void *y,
                           const void *x,
                           const void *w,
                           const void *bias,
                           infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateComplexMatmulDescriptor(infiniopHandle_t handle,
                                                    InfiniopDescriptor **desc_ptr,
                                                    infiniopTensorDescriptor_t c,
                                                    infiniopTensorDescriptor_t a,
                                                    infiniopTensorDescriptor_t b);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyComplexMatmulDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetComplexMatmulWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopComplexMatmul(InfiniopDescriptor *desc,
                                    void *workspace,
                                    size_t workspace_size,
                                    void *c,
                                    const void *a,
                                    const void *b,
                                    infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateRearrangeDescriptor(infiniopHandle_t handle,
                                                InfiniopDescriptor **desc_ptr,
                                                infiniopTensorDescriptor_t y,
                                                infiniopTensorDescriptor_t x);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyRearrangeDescriptor(InfiniopDescriptor *desc);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopRearrange(InfiniopDescriptor *desc,
                                void *y,
                                const void *x,
                                infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateEmbeddingDescriptor(infiniopHandle_t handle,
                                                InfiniopDescriptor **desc_ptr,
                                                infiniopTensorDescriptor_t output,
                                                infiniopTensorDescriptor_t indices,
                                                infiniopTensorDescriptor_t weight);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyEmbeddingDescriptor(InfiniopDescriptor *desc);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopEmbedding(InfiniopDescriptor *desc,
                                void *output,
                                const void *indices,
                                const void *weight,
                                infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateZerosDescriptor(infiniopHandle_t handle,
                                            InfiniopDescriptor **desc_ptr,
                                            infiniopTensorDescriptor_t y,
                                            infiniopTensorDescriptor_t x);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyZerosDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetZerosWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopZeros(InfiniopDescriptor *desc,
                            void *workspace,
                            size_t workspace_size,
                            void *y,
                            const void *x,
                            infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateOnesDescriptor(infiniopHandle_t handle,
                                           InfiniopDescriptor **desc_ptr,
                                           infiniopTensorDescriptor_t y,
                                           infiniopTensorDescriptor_t x);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyOnesDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetOnesWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopOnes(InfiniopDescriptor *desc,
                           void *workspace,
                           size_t workspace_size,
                           void *y,
                           const void *x,
                           infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateRoPEDescriptor(infiniopHandle_t handle,
                                           InfiniopDescriptor **desc_ptr,
                                           infiniopTensorDescriptor_t y,
                                           infiniopTensorDescriptor_t x,
                                           infiniopTensorDescriptor_t pos_ids,
                                           infiniopTensorDescriptor_t sin_table,
                                           infiniopTensorDescriptor_t cos_table,
                                           int algo);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyRoPEDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetRoPEWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopRoPE(InfiniopDescriptor *desc,
                           void *workspace,
                           size_t workspace_size,
                           void *y,
                           const void *x,
                           const void *pos_ids,
                           const void *sin_table,
                           const void *cos_table,
                           infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateOpticalMatmulDescriptor(infiniopHandle_t handle,
                                                    InfiniopDescriptor **desc_ptr,
                                                    infiniopTensorDescriptor_t out,
                                                    infiniopTensorDescriptor_t x,
                                                    infiniopTensorDescriptor_t w,
                                                    infiniopTensorDescriptor_t bias,
                                                    infiniopTensorDescriptor_t x_full_scale,
                                                    infiniopTensorDescriptor_t w_full_scale,
                                                    infiniopTensorDescriptor_t y_full_scale,
                                                    infiniopTensorDescriptor_t noise,
                                                    infiniopTensorDescriptor_t seed,
                                                    int dac_bits,
                                                    int weight_bits,
                                                    int adc_bits,
                                                    size_t array_rows);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyOpticalMatmulDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetOpticalMatmulWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopOpticalMatmul(InfiniopDescriptor *desc,
                                    void *workspace,
                                    size_t workspace_size,
                                    void *out,
                                    const void *x,
                                    const void *w,
                                    const void *bias,
                                    const void *x_full_scale,
                                    const void *w_full_scale,
                                    const void *y_full_scale,
                                    const void *noise,
                                    const void *seed,
                                    infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateOpticalConvDescriptor(infiniopHandle_t handle,
                                                  InfiniopDescriptor **desc_ptr,
                                                  infiniopTensorDescriptor_t out,
                                                  infiniopTensorDescriptor_t x,
                                                  infiniopTensorDescriptor_t kernel,
                                                  infiniopTensorDescriptor_t bias,
                                                  infiniopTensorDescriptor_t x_full_scale,
                                                  infiniopTensorDescriptor_t w_full_scale,
                                                  infiniopTensorDescriptor_t y_full_scale,
                                                  infiniopTensorDescriptor_t noise,
                                                  infiniopTensorDescriptor_t seed,
                                                  int dac_bits,
                                                  int weight_bits,
                                                  int adc_bits,
                                                  size_t array_rows,
                                                  const int64_t *pads,
                                                  const int64_t *strides,
                                                  const int64_t *dilations,
                                                  size_t groups);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyOpticalConvDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetOpticalConvWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopOpticalConv(InfiniopDescriptor *desc,
                                  void *workspace,
                                  size_t workspace_size,
                                  void *out,
                                  const void *x,
                                  const void *kernel,
                                  const void *bias,
                                  const void *x_full_scale,
                                  const void *w_full_scale,
                                  const void *y_full_scale,
                                  const void *noise,
                                  const void *seed,
                                  infinirtStream_t stream);

/**
 * Creates the operator for tensors of these layouts.
 */
lumina_status infiniopCreateCausalAttentionDescriptor(infiniopHandle_t handle,
                                                      InfiniopDescriptor **desc_ptr,
                                                      infiniopTensorDescriptor_t out,
                                                      infiniopTensorDescriptor_t q,
                                                      infiniopTensorDescriptor_t k,
                                                      infiniopTensorDescriptor_t v,
                                                      infiniopTensorDescriptor_t q_full_scale,
                                                      infiniopTensorDescriptor_t k_full_scale,
                                                      infiniopTensorDescriptor_t p_full_scale,
                                                      infiniopTensorDescriptor_t v_full_scale,
                                                      infiniopTensorDescriptor_t scores_full_scale,
                                                      infiniopTensorDescriptor_t out_full_scale,
                                                      infiniopTensorDescriptor_t noise,
                                                      infiniopTensorDescriptor_t seed,
                                                      int dac_bits,
                                                      int adc_bits,
                                                      float scale);

/**
 * Frees the operator.
 */
lumina_status infiniopDestroyCausalAttentionDescriptor(InfiniopDescriptor *desc);

/**
 * Writes how many bytes of workspace a call takes, which may begin anywhere.
 */
lumina_status infiniopGetCausalAttentionWorkspaceSize(InfiniopDescriptor *desc, size_t *size);

/**
 * Runs the operator on this memory.
 */
lumina_status infiniopCausalAttention(InfiniopDescriptor *desc,
                                      void *workspace,
                                      size_t workspace_size,
                                      void *out,
                                      const void *q,
                                      const void *k,
                                      const void *v,
                                      const void *q_full_scale,
                                      const void *k_full_scale,
                                      const void *p_full_scale,
                                      const void *v_full_scale,
                                      const void *scores_full_scale,
                                      const void *out_full_scale,
                                      const void *noise,
                                      const void *seed,
                                      infinirtStream_t stream);

/**
 * Allocates `size` bytes at a multiple of 64; of no bytes, null.
 */
lumina_status infinirtMalloc(void **p_ptr, size_t size);

/**
 * As `infinirtMalloc`.
 */
lumina_status infinirtMallocHost(void **p_ptr, size_t size);

/**
 * As `infinirtMalloc`.
 */
lumina_status infinirtMallocAsync(void **p_ptr, size_t size, infinirtStream_t stream);

/**
 * Frees what these functions have allocated; of null, nothing.
 */
lumina_status infinirtFree(void *ptr);

/**
 * As `infinirtFree`.
 */
lumina_status infinirtFreeHost(void *ptr);

/**
 * As `infinirtFree`.
 */
lumina_status infinirtFreeAsync(void *ptr, infinirtStream_t stream);

/**
 * Copies `size` bytes, which may overlap; the kind, from 0 to 3, changes nothing.
 */
lumina_status infinirtMemcpy(void *dst, const void *src, size_t size, int kind);

/**
 * As `infinirtMemcpy`; it has copied when it returns.
 */
lumina_status infinirtMemcpyAsync(void *dst,
                                  const void *src,
                                  size_t size,
                                  int kind,
                                  infinirtStream_t stream);

/**
 * Sets `count` bytes to the low byte of `value`.
 */
lumina_status infinirtMemset(void *ptr, int value, size_t count);

/**
 * As `infinirtMemset`; it is done when it returns.
 */
lumina_status infinirtMemsetAsync(void *ptr, int value, size_t count, infinirtStream_t stream);

/**
 * Writes how much memory the machine has free, and in all. Either may be null.
 */
lumina_status infinirtGetMemInfo(int device,
                                 int device_id,
                                 size_t *free_bytes,
                                 size_t *total_bytes);

/**
 * Nothing more is measured of the device.
 */
lumina_status infinirtGetDeviceResourceSnapshot(int device, int device_id, void *snapshot);

/**
 * Describes a tensor of `ndim` axes, at most 8. Strides count elements and may be 0 or negative; without
 * them the tensor is row-major. A pointer to its memory is one to the element of index 0.
 */
lumina_status infiniopCreateTensorDescriptor(infiniopTensorDescriptor_t *desc_ptr,
                                             size_t ndim,
                                             const size_t *shape,
                                             const ptrdiff_t *strides,
                                             int dtype);

/**
 * Frees the descriptor. Operators that were created with it do not need it.
 */
lumina_status infiniopDestroyTensorDescriptor(infiniopTensorDescriptor_t desc);

lumina_status infiniopDeepseekMoeWithDevicePtrs(void);

lumina_status infiniopCreateAddcmulDescriptor(void);

lumina_status infiniopGetAddcmulWorkspaceSize(void);

lumina_status infiniopAddcmul(void);

lumina_status infiniopDestroyAddcmulDescriptor(void);

lumina_status infiniopCreateAsumDescriptor(void);

lumina_status infiniopGetAsumWorkspaceSize(void);

lumina_status infiniopAsum(void);

lumina_status infiniopDestroyAsumDescriptor(void);

lumina_status infiniopCreateAtanhDescriptor(void);

lumina_status infiniopGetAtanhWorkspaceSize(void);

lumina_status infiniopAtanh(void);

lumina_status infiniopDestroyAtanhDescriptor(void);

lumina_status infiniopCreateAttentionDescriptor(void);

lumina_status infiniopGetAttentionWorkspaceSize(void);

lumina_status infiniopAttention(void);

lumina_status infiniopDestroyAttentionDescriptor(void);

lumina_status infiniopCreateAvgPool1dDescriptor(void);

lumina_status infiniopGetAvgPool1dWorkspaceSize(void);

lumina_status infiniopAvgPool1d(void);

lumina_status infiniopDestroyAvgPool1dDescriptor(void);

lumina_status infiniopCreateAvgPool3dDescriptor(void);

lumina_status infiniopGetAvgPool3dWorkspaceSize(void);

lumina_status infiniopAvgPool3d(void);

lumina_status infiniopDestroyAvgPool3dDescriptor(void);

lumina_status infiniopCreateAwqMarlinGemmDescriptor(void);

lumina_status infiniopGetAwqMarlinGemmWorkspaceSize(void);

lumina_status infiniopAwqMarlinGemm(void);

lumina_status infiniopDestroyAwqMarlinGemmDescriptor(void);

lumina_status infiniopCreateAwqMarlinRepackDescriptor(void);

lumina_status infiniopGetAwqMarlinRepackWorkspaceSize(void);

lumina_status infiniopAwqMarlinRepack(void);

lumina_status infiniopDestroyAwqMarlinRepackDescriptor(void);

lumina_status infiniopCreateAxpyDescriptor(void);

lumina_status infiniopGetAxpyWorkspaceSize(void);

lumina_status infiniopAxpy(void);

lumina_status infiniopDestroyAxpyDescriptor(void);

lumina_status infiniopCreateBCEWithLogitsDescriptor(void);

lumina_status infiniopGetBCEWithLogitsWorkspaceSize(void);

lumina_status infiniopBCEWithLogits(void);

lumina_status infiniopDestroyBCEWithLogitsDescriptor(void);

lumina_status infiniopCreateBlasAmaxDescriptor(void);

lumina_status infiniopGetBlasAmaxWorkspaceSize(void);

lumina_status infiniopBlasAmax(void);

lumina_status infiniopDestroyBlasAmaxDescriptor(void);

lumina_status infiniopCreateBlasAminDescriptor(void);

lumina_status infiniopGetBlasAminWorkspaceSize(void);

lumina_status infiniopBlasAmin(void);

lumina_status infiniopDestroyBlasAminDescriptor(void);

lumina_status infiniopCreateBlasCopyDescriptor(void);

lumina_status infiniopGetBlasCopyWorkspaceSize(void);

lumina_status infiniopBlasCopy(void);

lumina_status infiniopDestroyBlasCopyDescriptor(void);

lumina_status infiniopCreateBlasDotDescriptor(void);

lumina_status infiniopGetBlasDotWorkspaceSize(void);

lumina_status infiniopBlasDot(void);

lumina_status infiniopDestroyBlasDotDescriptor(void);

lumina_status infiniopCreateCdistDescriptor(void);

lumina_status infiniopGetCdistWorkspaceSize(void);

lumina_status infiniopCdist(void);

lumina_status infiniopDestroyCdistDescriptor(void);

lumina_status infiniopCreateChunkGatedDeltaRuleDescriptor(void);

lumina_status infiniopGetChunkGatedDeltaRuleWorkspaceSize(void);

lumina_status infiniopChunkGatedDeltaRule(void);

lumina_status infiniopDestroyChunkGatedDeltaRuleDescriptor(void);

lumina_status infiniopCreateCrossEntropyDescriptor(void);

lumina_status infiniopGetCrossEntropyWorkspaceSize(void);

lumina_status infiniopCrossEntropy(void);

lumina_status infiniopDestroyCrossEntropyDescriptor(void);

lumina_status infiniopCreateDeepseekMoeDescriptor(void);

lumina_status infiniopGetDeepseekMoeWorkspaceSize(void);

lumina_status infiniopDeepseekMoe(void);

lumina_status infiniopDestroyDeepseekMoeDescriptor(void);

lumina_status infiniopCreateDequantizeAWQDescriptor(void);

lumina_status infiniopGetDequantizeAWQWorkspaceSize(void);

lumina_status infiniopDequantizeAWQ(void);

lumina_status infiniopDestroyDequantizeAWQDescriptor(void);

lumina_status infiniopCreateDequantizeGPTQDescriptor(void);

lumina_status infiniopGetDequantizeGPTQWorkspaceSize(void);

lumina_status infiniopDequantizeGPTQ(void);

lumina_status infiniopDestroyDequantizeGPTQDescriptor(void);

lumina_status infiniopCreateDotDescriptor(void);

lumina_status infiniopGetDotWorkspaceSize(void);

lumina_status infiniopDot(void);

lumina_status infiniopDestroyDotDescriptor(void);

lumina_status infiniopCreateEqualDescriptor(void);

lumina_status infiniopGetEqualWorkspaceSize(void);

lumina_status infiniopEqual(void);

lumina_status infiniopDestroyEqualDescriptor(void);

lumina_status infiniopCreateErfDescriptor(void);

lumina_status infiniopGetErfWorkspaceSize(void);

lumina_status infiniopErf(void);

lumina_status infiniopDestroyErfDescriptor(void);

lumina_status infiniopCreateErfcDescriptor(void);

lumina_status infiniopGetErfcWorkspaceSize(void);

lumina_status infiniopErfc(void);

lumina_status infiniopDestroyErfcDescriptor(void);

lumina_status infiniopCreateErfinvDescriptor(void);

lumina_status infiniopGetErfinvWorkspaceSize(void);

lumina_status infiniopErfinv(void);

lumina_status infiniopDestroyErfinvDescriptor(void);

lumina_status infiniopCreateFusedFFNDescriptor(void);

lumina_status infiniopGetFusedFFNWorkspaceSize(void);

lumina_status infiniopFusedFFN(void);

lumina_status infiniopDestroyFusedFFNDescriptor(void);

lumina_status infiniopCreateFusedGatedDeltaNetGatingDescriptor(void);

lumina_status infiniopGetFusedGatedDeltaNetGatingWorkspaceSize(void);

lumina_status infiniopFusedGatedDeltaNetGating(void);

lumina_status infiniopDestroyFusedGatedDeltaNetGatingDescriptor(void);

lumina_status infiniopCreateFusedMoeDescriptor(void);

lumina_status infiniopGetFusedMoeWorkspaceSize(void);

lumina_status infiniopFusedMoe(void);

lumina_status infiniopDestroyFusedMoeDescriptor(void);

lumina_status infiniopCreateGptqMarlinGemmDescriptor(void);

lumina_status infiniopGetGptqMarlinGemmWorkspaceSize(void);

lumina_status infiniopGptqMarlinGemm(void);

lumina_status infiniopDestroyGptqMarlinGemmDescriptor(void);

lumina_status infiniopCreateGptqMarlinRepackDescriptor(void);

lumina_status infiniopGetGptqMarlinRepackWorkspaceSize(void);

lumina_status infiniopGptqMarlinRepack(void);

lumina_status infiniopDestroyGptqMarlinRepackDescriptor(void);

lumina_status infiniopCreateGptqQyblasGemmDescriptor(void);

lumina_status infiniopGetGptqQyblasGemmWorkspaceSize(void);

lumina_status infiniopGptqQyblasGemm(void);

lumina_status infiniopDestroyGptqQyblasGemmDescriptor(void);

lumina_status infiniopCreateHardSwishDescriptor(void);

lumina_status infiniopGetHardSwishWorkspaceSize(void);

lumina_status infiniopHardSwish(void);

lumina_status infiniopDestroyHardSwishDescriptor(void);

lumina_status infiniopCreateHardTanhDescriptor(void);

lumina_status infiniopGetHardTanhWorkspaceSize(void);

lumina_status infiniopHardTanh(void);

lumina_status infiniopDestroyHardTanhDescriptor(void);

lumina_status infiniopCreateHistcDescriptor(void);

lumina_status infiniopGetHistcWorkspaceSize(void);

lumina_status infiniopHistc(void);

lumina_status infiniopDestroyHistcDescriptor(void);

lumina_status infiniopCreateI8GemmDescriptor(void);

lumina_status infiniopGetI8GemmWorkspaceSize(void);

lumina_status infiniopI8Gemm(void);

lumina_status infiniopDestroyI8GemmDescriptor(void);

lumina_status infiniopCreateKVCachingDescriptor(void);

lumina_status infiniopGetKVCachingWorkspaceSize(void);

lumina_status infiniopKVCaching(void);

lumina_status infiniopDestroyKVCachingDescriptor(void);

lumina_status infiniopCreateLPNormDescriptor(void);

lumina_status infiniopGetLPNormWorkspaceSize(void);

lumina_status infiniopLPNorm(void);

lumina_status infiniopDestroyLPNormDescriptor(void);

lumina_status infiniopCreateLog10Descriptor(void);

lumina_status infiniopGetLog10WorkspaceSize(void);

lumina_status infiniopLog10(void);

lumina_status infiniopDestroyLog10Descriptor(void);

lumina_status infiniopCreateLog1pDescriptor(void);

lumina_status infiniopGetLog1pWorkspaceSize(void);

lumina_status infiniopLog1p(void);

lumina_status infiniopDestroyLog1pDescriptor(void);

lumina_status infiniopCreateMRoPEDescriptor(void);

lumina_status infiniopGetMRoPEWorkspaceSize(void);

lumina_status infiniopMRoPE(void);

lumina_status infiniopDestroyMRoPEDescriptor(void);

lumina_status infiniopCreateMatrixPowerDescriptor(void);

lumina_status infiniopGetMatrixPowerWorkspaceSize(void);

lumina_status infiniopMatrixPower(void);

lumina_status infiniopDestroyMatrixPowerDescriptor(void);

lumina_status infiniopCreateMxfp4DequantizeDescriptor(void);

lumina_status infiniopGetMxfp4DequantizeWorkspaceSize(void);

lumina_status infiniopMxfp4Dequantize(void);

lumina_status infiniopDestroyMxfp4DequantizeDescriptor(void);

lumina_status infiniopCreateNrm2Descriptor(void);

lumina_status infiniopGetNrm2WorkspaceSize(void);

lumina_status infiniopNrm2(void);

lumina_status infiniopDestroyNrm2Descriptor(void);

lumina_status infiniopCreateNsaCompressPagedCacheDescriptor(void);

lumina_status infiniopGetNsaCompressPagedCacheWorkspaceSize(void);

lumina_status infiniopNsaCompressPagedCache(void);

lumina_status infiniopDestroyNsaCompressPagedCacheDescriptor(void);

lumina_status infiniopCreateNsaPagedAttentionDescriptor(void);

lumina_status infiniopGetNsaPagedAttentionWorkspaceSize(void);

lumina_status infiniopNsaPagedAttention(void);

lumina_status infiniopDestroyNsaPagedAttentionDescriptor(void);

lumina_status infiniopCreatePagedAttentionDescriptor(void);

lumina_status infiniopGetPagedAttentionWorkspaceSize(void);

lumina_status infiniopPagedAttention(void);

lumina_status infiniopDestroyPagedAttentionDescriptor(void);

lumina_status infiniopCreatePagedAttentionPrefillDescriptor(void);

lumina_status infiniopGetPagedAttentionPrefillWorkspaceSize(void);

lumina_status infiniopPagedAttentionPrefill(void);

lumina_status infiniopDestroyPagedAttentionPrefillDescriptor(void);

lumina_status infiniopCreatePagedCachingDescriptor(void);

lumina_status infiniopGetPagedCachingWorkspaceSize(void);

lumina_status infiniopPagedCaching(void);

lumina_status infiniopDestroyPagedCachingDescriptor(void);

lumina_status infiniopCreatePerChannelQuantI8Descriptor(void);

lumina_status infiniopGetPerChannelQuantI8WorkspaceSize(void);

lumina_status infiniopPerChannelQuantI8(void);

lumina_status infiniopDestroyPerChannelQuantI8Descriptor(void);

lumina_status infiniopCreatePerTensorDequantI8Descriptor(void);

lumina_status infiniopGetPerTensorDequantI8WorkspaceSize(void);

lumina_status infiniopPerTensorDequantI8(void);

lumina_status infiniopDestroyPerTensorDequantI8Descriptor(void);

lumina_status infiniopCreatePerTensorQuantI8Descriptor(void);

lumina_status infiniopGetPerTensorQuantI8WorkspaceSize(void);

lumina_status infiniopPerTensorQuantI8(void);

lumina_status infiniopDestroyPerTensorQuantI8Descriptor(void);

lumina_status infiniopCreatePixelShuffleDescriptor(void);

lumina_status infiniopGetPixelShuffleWorkspaceSize(void);

lumina_status infiniopPixelShuffle(void);

lumina_status infiniopDestroyPixelShuffleDescriptor(void);

lumina_status infiniopCreateRandomSampleDescriptor(void);

lumina_status infiniopGetRandomSampleWorkspaceSize(void);

lumina_status infiniopRandomSample(void);

lumina_status infiniopDestroyRandomSampleDescriptor(void);

lumina_status infiniopCreateReciprocalDescriptor(void);

lumina_status infiniopGetReciprocalWorkspaceSize(void);

lumina_status infiniopReciprocal(void);

lumina_status infiniopDestroyReciprocalDescriptor(void);

lumina_status infiniopCreateRecurrentGatedDeltaRuleDescriptor(void);

lumina_status infiniopGetRecurrentGatedDeltaRuleWorkspaceSize(void);

lumina_status infiniopRecurrentGatedDeltaRule(void);

lumina_status infiniopDestroyRecurrentGatedDeltaRuleDescriptor(void);

lumina_status infiniopCreateRotDescriptor(void);

lumina_status infiniopGetRotWorkspaceSize(void);

lumina_status infiniopRot(void);

lumina_status infiniopDestroyRotDescriptor(void);

lumina_status infiniopCreateRotgDescriptor(void);

lumina_status infiniopGetRotgWorkspaceSize(void);

lumina_status infiniopRotg(void);

lumina_status infiniopDestroyRotgDescriptor(void);

lumina_status infiniopCreateRotmDescriptor(void);

lumina_status infiniopGetRotmWorkspaceSize(void);

lumina_status infiniopRotm(void);

lumina_status infiniopDestroyRotmDescriptor(void);

lumina_status infiniopCreateRotmgDescriptor(void);

lumina_status infiniopGetRotmgWorkspaceSize(void);

lumina_status infiniopRotmg(void);

lumina_status infiniopDestroyRotmgDescriptor(void);

lumina_status infiniopCreateScalDescriptor(void);

lumina_status infiniopGetScalWorkspaceSize(void);

lumina_status infiniopScal(void);

lumina_status infiniopDestroyScalDescriptor(void);

lumina_status infiniopCreateSiluAndMulDescriptor(void);

lumina_status infiniopGetSiluAndMulWorkspaceSize(void);

lumina_status infiniopSiluAndMul(void);

lumina_status infiniopDestroySiluAndMulDescriptor(void);

lumina_status infiniopCreateSwapDescriptor(void);

lumina_status infiniopGetSwapWorkspaceSize(void);

lumina_status infiniopSwap(void);

lumina_status infiniopDestroySwapDescriptor(void);

lumina_status infiniopCreateTopkrouterDescriptor(void);

lumina_status infiniopGetTopkrouterWorkspaceSize(void);

lumina_status infiniopTopkrouter(void);

lumina_status infiniopDestroyTopkrouterDescriptor(void);

lumina_status infiniopCreateTopksoftmaxDescriptor(void);

lumina_status infiniopGetTopksoftmaxWorkspaceSize(void);

lumina_status infiniopTopksoftmax(void);

lumina_status infiniopDestroyTopksoftmaxDescriptor(void);

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

/* Descriptors of operators by their names. */
typedef InfiniopDescriptor *infiniopAddDescriptor_t;
typedef InfiniopDescriptor *infiniopSubDescriptor_t;
typedef InfiniopDescriptor *infiniopMulDescriptor_t;
typedef InfiniopDescriptor *infiniopReluDescriptor_t;
typedef InfiniopDescriptor *infiniopGeluDescriptor_t;
typedef InfiniopDescriptor *infiniopGeluTanhDescriptor_t;
typedef InfiniopDescriptor *infiniopQuickGeluDescriptor_t;
typedef InfiniopDescriptor *infiniopSiluDescriptor_t;
typedef InfiniopDescriptor *infiniopSigmoidDescriptor_t;
typedef InfiniopDescriptor *infiniopTanhDescriptor_t;
typedef InfiniopDescriptor *infiniopSoftplusDescriptor_t;
typedef InfiniopDescriptor *infiniopClipDescriptor_t;
typedef InfiniopDescriptor *infiniopSwiGLUDescriptor_t;
typedef InfiniopDescriptor *infiniopSoftmaxDescriptor_t;
typedef InfiniopDescriptor *infiniopLogSoftmaxDescriptor_t;
typedef InfiniopDescriptor *infiniopCausalSoftmaxDescriptor_t;
typedef InfiniopDescriptor *infiniopLayerNormDescriptor_t;
typedef InfiniopDescriptor *infiniopRMSNormDescriptor_t;
typedef InfiniopDescriptor *infiniopAddRMSNormDescriptor_t;
typedef InfiniopDescriptor *infiniopSumDescriptor_t;
typedef InfiniopDescriptor *infiniopTopKDescriptor_t;
typedef InfiniopDescriptor *infiniopGemmDescriptor_t;
typedef InfiniopDescriptor *infiniopConvDescriptor_t;
typedef InfiniopDescriptor *infiniopComplexMatmulDescriptor_t;
typedef InfiniopDescriptor *infiniopRearrangeDescriptor_t;
typedef InfiniopDescriptor *infiniopEmbeddingDescriptor_t;
typedef InfiniopDescriptor *infiniopZerosDescriptor_t;
typedef InfiniopDescriptor *infiniopOnesDescriptor_t;
typedef InfiniopDescriptor *infiniopRoPEDescriptor_t;
typedef InfiniopDescriptor *infiniopOpticalMatmulDescriptor_t;
typedef InfiniopDescriptor *infiniopOpticalConvDescriptor_t;
typedef InfiniopDescriptor *infiniopCausalAttentionDescriptor_t;
