/// A value that holds tensors and is only read.
///
/// tch leaves `Tensor` without `Sync` because its in-place methods take `&self` views of shared storage.
pub struct Shared<T>(T);

// SAFETY: libtorch allows any number of threads to read one tensor (reference counts are atomic, version counters
// are only written by in-place operations). `Shared` gives out `&T` only; the rest is the promise of `new`'s caller.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Wraps a value that is not written to from here on.
    ///
    /// # Safety
    /// Tensors are all that keeps `T` from being `Sync`, and none of them is written to in place from here on, neither
    /// through this value nor through another tensor over the same memory.
    pub unsafe fn new(value: T) -> Self {
        Shared(value)
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
