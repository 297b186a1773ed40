//! One operator on many threads at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use lumina_kernels::DType;

use super::support::{Order, Random, Tensor, Workspace, destroy};

struct Shared(*mut lumina::InfiniopDescriptor);

// SAFETY: an operator may be run by several threads at a time.
unsafe impl Sync for Shared {}

#[test]
fn an_operator_runs_on_many_threads_at_a_time() {
    let shape = [40, 90];
    let [y, x, w] = [&shape[..], &shape, &shape[1..]]
        .map(|shape| Tensor::new(DType::BF16, shape, Order::RowMajor));
    let tensors = [&y, &x, &w].map(Tensor::describe);
    let [of_y, of_x, of_w] = tensors;
    let (status, desc) = create!(RMSNorm, [of_y, of_x, of_w], 1e-5);
    assert_eq!(status, lumina::Status::Success);
    tensors.into_iter().for_each(destroy);
    let (shared, runs) = (&Shared(desc), &AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for seed in 0..6 {
            scope.spawn(move || {
                let mut random = Random::new(seed);
                let (mut y, mut x, mut w) =
                    (y_like(&shape), y_like(&shape).random(&mut random), y_like(&shape[1..]));
                w = w.filled(|_| 1.0);
                let mut size = 0;
                let mut first = None;
                for _ in 0..200 {
                    // SAFETY: the operator lives as long as the threads, and all else is this one's.
                    unsafe {
                        lumina::RMSNorm::get_workspace_size(shared.0, &mut size);
                        let mut workspace = Workspace::new(size);
                        let status = lumina::RMSNorm::run(
                            shared.0,
                            workspace.pointer(),
                            size,
                            y.pointer(),
                            x.pointer(),
                            w.pointer(),
                            std::ptr::null_mut(),
                        );
                        assert_eq!(status, lumina::Status::Success);
                    }
                    let values = y.values();
                    assert_eq!(*first.get_or_insert(values.clone()), values);
                    runs.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(runs.load(Ordering::Relaxed), 1200);
    // SAFETY: no thread runs it any more.
    assert_eq!(unsafe { lumina::RMSNorm::destroy_descriptor(desc) }, lumina::Status::Success);
}

fn y_like(shape: &[usize]) -> Tensor {
    Tensor::new(DType::BF16, shape, Order::RowMajor)
}
