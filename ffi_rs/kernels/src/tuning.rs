//! Thresholds and sizes that only speed depends on, each with what it trades.
//!
//! Their values suit x86-64 cores with 1 to 2 MiB of second-level cache. What changes bits stands
//! with the op that it belongs to: rows of a block, rows of a group, the number of partial sums.

/// Nanoseconds of work from which on a loop is shared with a thread that sleeps. Below, the loop is
/// over before the thread is awake, which takes some tens of microseconds on a virtual machine;
/// above, half of the time is lost on two cores.
pub(crate) const WAKING: usize = 60_000;
/// Times that a thread looks for what another one is about to do before it gives its CPU away: some
/// tens of microseconds. Fewer, and it is to be woken for the next stage; more, and a thread that
/// needs its CPU waits for it.
pub(crate) const SPINS: usize = 1000;

/// Products of two numbers that one thread does in a nanosecond, to guess what a loop takes. Too few
/// wake threads for nothing, too many leave them asleep.
pub(crate) const CHAIN_PRODUCTS_PER_NANOSECOND: usize = 100;
/// The same of a plain f32 product.
pub(crate) const MATMUL_PRODUCTS_PER_NANOSECOND: usize = 30;
/// Chunks of a plain product for each worker: a slow one leaves some to the others, and each packs
/// its columns anew.
pub(crate) const MATMUL_TASKS_PER_WORKER: usize = 2;
/// Rows of a plain product below which a copy of columns that do not lie together is read too seldom to
/// be wide, and columns of it then: two registers of sums are as fast as memory, and a copy of a
/// slice stays in the nearest cache.
pub(crate) const MATMUL_FEW_ROWS: usize = 8;
pub(crate) const MATMUL_FEW_COLUMNS: usize = 32;
/// Words of a column that are asked for before they are needed, where sixteen columns are read at once:
/// fewer come too late, more fill the nearest cache.
#[cfg(target_arch = "x86_64")]
pub(crate) const PREFETCH_COLUMN: usize = 64;

/// Cache lines of scratch memory, in large pieces, that are kept for later calls: 26 MiB. Less maps
/// and clears pages anew in each call of a large op, more is memory that nobody else gets.
pub(crate) const KEPT_LARGE_LINES: usize = (26 << 20) / 64;
/// The same of each size of small pieces: 512 KiB.
pub(crate) const KEPT_SMALL_LINES: usize = (512 << 10) / 64;

/// Words between two rows of B from which on its lines fall into few sets of a cache, and into many
/// pages: then a copy of some columns pays.
pub(crate) const COPY_B_STRIDE: usize = 512;
/// Rows of C, times the registers of a cache line, from which on the copy is used often enough.
pub(crate) const COPY_B_ROWS: usize = 64;
/// Rows of B that are copied at a time, and columns: whole tiles of every instruction set. A copy
/// fits into the second-level cache beside rows of A; smaller ones load and store sums more often.
pub(crate) const COPY_B_DEPTH: usize = 256;
pub(crate) const COPY_B_COLUMNS: usize = 144;
/// Columns up to which they are copied at once, as a narrow rest would take as long as a wide one.
pub(crate) const COPY_B_MOST_COLUMNS: usize = 192;
/// Columns of C from which on A is packed in panels where its words along the depth lie apart. Fewer
/// columns read each word too seldom.
pub(crate) const PACK_A_COLUMNS: usize = 128;
/// Words along the depth from which on they are: the caches look ahead of fewer by themselves.
pub(crate) const PACK_A_DEPTH: usize = 64;
/// Rows of A that are packed at a time, whole tiles of every instruction set: with the depth of a copy
/// of B they leave room in the second-level cache.
pub(crate) const PACK_A_ROWS: usize = 96;
/// Words along the depth from which on a tile of C is prefetched: a shallower tile is done before
/// its lines have come.
pub(crate) const PREFETCH_C_DEPTH: usize = 64;
/// Rows of B that are asked for before they are needed, where there are few rows of A and those of B lie
/// in pages of their own: fewer come too late, more are too many to wait for at once.
pub(crate) const PREFETCH_B_ROWS: usize = 4;

/// Columns of w that one chunk packs at most: wide chunks read long runs of a row, narrow ones give
/// every thread one.
pub(crate) const PACKED_COLUMNS: usize = 256;
/// Rows of a part of the output that one thread computes at most, unless there are many weights: more rows read packed
/// weights less often, fewer share the work out more evenly.
pub(crate) const FORWARD_ROWS: usize = 64;
/// Weights from which on no cache of a core holds them: better parts of many rows and few columns.
pub(crate) const FORWARD_MANY_WEIGHTS: usize = 1 << 18;
/// Rows of x that one chunk converts where several tiles share them.
pub(crate) const FORWARD_CONVERTED_ROWS: usize = 8;
/// Numbers of the patches that a convolution multiplies at a time: half a cache of a core. More are read
/// from the next one, fewer read the weights more often.
pub(crate) const CONV_PATCHES: usize = 1 << 17;
/// Rows of these patches at most, where each has few numbers.
pub(crate) const CONV_ROWS: usize = 1024;
/// Products of a row, zeros included, up to which narrow groups of a convolution are one product: more
/// take longer than the rows that are saved.
pub(crate) const CONV_MERGED_PRODUCTS: usize = 1 << 13;
/// Rows that one chunk of the quantizer converts.
pub(crate) const QUANTIZED_ROWS: usize = 16;

/// Elements of the rows that one chunk of a softmax has: fewer share rows of unequal length out more
/// evenly, more are taken less often.
pub(crate) const SOFTMAX_CHUNK: usize = 1 << 14;
/// Elements of a softmax that one thread computes in a nanosecond, to guess what a loop takes.
pub(crate) const SOFTMAX_PER_NANOSECOND: usize = 2;

/// Weights up to which w is transposed and packed once rather than for each block of rows, unless a
/// word holds several: packed they take as much memory again.
pub(crate) const BACKWARD_FEW_WEIGHTS: usize = 1 << 16;
/// Words along the depth of dx whose weights are packed at a time, where that is not done once: as
/// many as a cache of a core holds.
pub(crate) const DX_DEPTH: usize = 512;
/// Rows of a tile of dx where the weights are packed once: as [`FORWARD_ROWS`].
pub(crate) const DX_ROWS: usize = 64;
/// Columns of dw below which its tiles are cut unfavorably: then each thread has one part, else two,
/// as one thread may come late.
pub(crate) const DW_NARROW_COLUMNS: usize = 64;
/// Columns of dw that one chunk adds up and takes through the converter.
pub(crate) const FINISHED_COLUMNS: usize = 64;

/// Lines of weights, or of their gradient, that one chunk writes in another order: as many words as a
/// cache line has, which is read once then.
pub(crate) const MOVED_LINES: usize = 16;
/// Numbers that one thread writes so in a nanosecond, to guess what a loop takes.
pub(crate) const MOVED_PER_NANOSECOND: usize = 1;

/// Columns of a complex product that one chunk computes, whole tiles of every instruction set, and
/// rows: more read what is packed of w more often, fewer share the work out more evenly.
pub(crate) const COMPLEX_COLUMNS: usize = 96;
pub(crate) const COMPLEX_ROWS: usize = 192;
/// Rows of w that are packed at a time: with their columns they fit into the second-level cache.
pub(crate) const COMPLEX_DEPTH: usize = 256;
/// Rows of x whose parts one chunk writes.
pub(crate) const COMPLEX_SPLIT_ROWS: usize = 16;
/// Rows of weights that are made of their codes in a chunk, those of whole words, which are read once then;
/// and columns, where these are written as lines: enough to read long runs of words.
pub(crate) const DEQUANTIZED_ROWS: usize = 32;
pub(crate) const DEQUANTIZED_COLUMNS: usize = 128;

/// Rows of a product with codes from which on they are decoded in panels for the second-level cache,
/// rows and columns of which these are: each is read by many rows then.
pub(crate) const CODED_FEW_ROWS: usize = 8;
pub(crate) const CODED_DEPTH: usize = 256;
pub(crate) const CODED_COLUMNS: usize = 144;
/// The same for fewer rows: a panel for the nearest cache.
pub(crate) const CODED_FEW_DEPTH: usize = 16;
pub(crate) const CODED_FEW_COLUMNS: usize = 256;
/// What the columns of a worker are a multiple of then: a line of memory for each register of sums.
pub(crate) const CODED_FEW_SHARE: usize = 64;
/// Codes that one thread decodes in a nanosecond, to guess what a loop takes.
pub(crate) const CODED_PER_NANOSECOND: usize = 8;
/// Sums of a product of integers and codes that the nearest cache holds beside what is multiplied.
pub(crate) const CODED_SUMS: usize = 4096;
/// Rows of x from which on bytes of codes are copied, to lie together for all of them.
pub(crate) const CODED_MANY_ROWS: usize = 32;
/// Bytes of codes that the second-level cache holds beside what else a product with many rows reads.
pub(crate) const CODED_BYTES: usize = 512 << 10;
/// Inputs of an array from which on words of codes are read in place, where several arrays may share
/// one: fewer read most of a word for nothing.
pub(crate) const CODED_ARRAY_ROWS: usize = 32;
