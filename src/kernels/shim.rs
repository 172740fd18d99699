//! Parts of libtorch that tch does not bind, through the C++ sources beside this file.

use std::ffi::{c_int, c_void};
use std::ops::Range;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::Result;
use crate::runtime::{from_text, last_error};

unsafe extern "C" {
    fn discffusion_has_onednn() -> bool;
    fn discffusion_records() -> bool;
    fn discffusion_pack_conv2d(
        weight: *const C_tensor,
        stride: i64,
        padding: i64,
        input: *const i64,
        dimensions: usize,
    ) -> *mut C_tensor;
    fn discffusion_conv2d(
        x: *const C_tensor,
        packed: *const C_tensor,
        bias: *const C_tensor,
        stride: i64,
        padding: i64,
    ) -> *mut C_tensor;
    fn discffusion_pack_linear(weight: *const C_tensor, rows: i64) -> *mut C_tensor;
    fn discffusion_linear(x: *const C_tensor, packed: *const C_tensor, bias: *const C_tensor) -> *mut C_tensor;
    fn discffusion_attend_pooled(
        q: *const C_tensor,
        k: *const C_tensor,
        v: *const C_tensor,
        lse: *const C_tensor,
        scale: f64,
        map: c_int,
        lambda: f64,
        ranges: *const i64,
        outputs: *mut *mut C_tensor,
    ) -> bool;
    fn discffusion_attend_lse(
        q: *const C_tensor,
        k: *const C_tensor,
        v: *const C_tensor,
        outputs: *mut *mut C_tensor,
    ) -> bool;
    fn discffusion_upload(tensor: *const C_tensor, index: c_int) -> *mut C_tensor;
    fn discffusion_send(tensor: *const C_tensor) -> *mut c_void;
    fn discffusion_receive(copy: *mut c_void) -> *mut C_tensor;
    fn discffusion_cuda_stream(index: c_int, stream: *mut *mut c_void) -> bool;
    fn discffusion_cuda_memory(index: c_int, bytes: *mut usize) -> bool;
    fn discffusion_empty_cuda_cache();
}

/// Whether oneDNN's kernels are available.
pub fn has_onednn() -> bool {
    // SAFETY: takes and keeps nothing.
    unsafe { discffusion_has_onednn() }
}

/// Whether autograd records what this thread computes.
pub fn records() -> bool {
    // SAFETY: takes and keeps nothing.
    unsafe { discffusion_records() }
}

/// A convolution's weight `[out, in, k, k]` (float32, CPU) in oneDNN's layout for inputs of the shape `input`. It can
/// be used with inputs of other shapes and gives the same numbers.
pub fn pack_conv2d(weight: &Tensor, stride: i64, padding: i64, input: &[i64]) -> Tensor {
    // SAFETY: the pointers are valid for the call.
    owned(unsafe { discffusion_pack_conv2d(weight.as_ptr(), stride, padding, input.as_ptr(), input.len()) })
}

/// `[B, in, h, w]` to `[B, out, h', w']` with a packed weight and a bias `[out]`.
pub fn conv2d(x: &Tensor, packed: &Tensor, bias: &Tensor, stride: i64, padding: i64) -> Tensor {
    // SAFETY: the pointers are valid for the call.
    owned(unsafe { discffusion_conv2d(x.as_ptr(), packed.as_ptr(), bias.as_ptr(), stride, padding) })
}

/// A linear layer's weight `[out, in]` (float32, CPU) in oneDNN's layout for inputs of `rows` rows. It can be used with
/// other numbers of rows and gives the same results.
pub fn pack_linear(weight: &Tensor, rows: i64) -> Tensor {
    // SAFETY: the pointer is valid for the call.
    owned(unsafe { discffusion_pack_linear(weight.as_ptr(), rows) })
}

/// `[…, in]` to `[…, out]` with a packed weight.
pub fn linear(x: &Tensor, packed: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let bias = bias.map_or(std::ptr::null(), Tensor::as_ptr);
    // SAFETY: the pointers are valid for the call, or null where that is allowed.
    owned(unsafe { discffusion_linear(x.as_ptr(), packed.as_ptr(), bias) })
}

/// The map that [`attend_pooled`] pools.
#[derive(Debug, Clone, Copy)]
pub enum PooledMap<'a> {
    /// `S = scale · QKᵀ`.
    Scores,
    /// The softmax of `S` over the keys.
    Probabilities,
    /// `exp(S − lse)`: a part of a softmax over more keys, whose scores have the log-sum-exp `lse` `[B, H, n]`.
    PartOfProbabilities(&'a Tensor),
}

/// Attention on the CPU that pools its map `A`.
///
/// It returns the means over rows of `1/λ log(1/m Σ_j exp(λ A_ij))`, float64 `[B, H]`, and of
/// `Σ_j |A_ij| softmax_j(λ A_i)`, float32 `[B, H]`, and the output `[B, H, n, d]` unless `v` is `None`. `q` is
/// `[B, H, n, d]`, `k` and `v` are `[B, H, m, d]`; `tokens` are the pooled columns of each sample. It returns `None` if
/// there are more tokens than the kernel supports, or no BLAS is found.
///
/// # Panics
/// If `tokens` has another length than the batch, or ranges that are empty or exceed the keys; if an output of a part of
/// a softmax is wanted.
pub fn attend_pooled(
    q: &Tensor,
    k: &Tensor,
    v: Option<&Tensor>,
    scale: f64,
    map: PooledMap,
    lambda: f64,
    tokens: Option<&[Range<usize>]>,
) -> Option<[Option<Tensor>; 3]> {
    let (samples, keys) = (q.size()[0], k.size()[2]);
    let ranges: Option<Vec<i64>> = tokens.map(|tokens| {
        assert_eq!(tokens.len() as i64, samples, "every sample has its tokens");
        assert!(tokens.iter().all(|own| own.start < own.end && own.end as i64 <= keys), "tokens lie among the keys");
        tokens.iter().flat_map(|own| [own.start as i64, own.len() as i64]).collect()
    });
    let (v, ranges) =
        (v.map_or(std::ptr::null(), Tensor::as_ptr), ranges.as_deref().map_or(std::ptr::null(), <[i64]>::as_ptr));
    let (map, lse) = match map {
        PooledMap::Scores => (0, std::ptr::null()),
        PooledMap::Probabilities => (1, std::ptr::null()),
        PooledMap::PartOfProbabilities(lse) => {
            assert!(v.is_null(), "a part of a softmax has no output");
            assert_eq!(lse.size(), q.size()[..3], "every row has a log-sum-exp");
            (2, lse.as_ptr())
        }
    };
    let mut made = [std::ptr::null_mut(); 3];
    let (q, k) = (q.as_ptr(), k.as_ptr());
    // SAFETY: the pointers are valid for the call, or null where that is allowed; there is room for the three tensors.
    let done = unsafe { discffusion_attend_pooled(q, k, v, lse, scale, map, lambda, ranges, made.as_mut_ptr()) };
    if !done {
        none_or_panic();
        return None;
    }
    // SAFETY: new tensors that nobody else owns.
    Some(made.map(|tensor| (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor) })))
}

/// Fused attention by the kernel that libtorch chooses: the output `[B, H, n, d]`, and `log Σ_j exp(q·k_j/√d)` of every
/// row, float32 `[B, H, n]`. `None` if that kernel does not return the latter.
pub fn attend_lse(q: &Tensor, k: &Tensor, v: &Tensor) -> Option<(Tensor, Tensor)> {
    let mut made = [std::ptr::null_mut(); 2];
    // SAFETY: the pointers are valid for the call, and there is room for the two tensors.
    if !unsafe { discffusion_attend_lse(q.as_ptr(), k.as_ptr(), v.as_ptr(), made.as_mut_ptr()) } {
        none_or_panic();
        return None;
    }
    // SAFETY: new tensors that nobody else owns.
    let [output, lse] = made.map(|tensor| unsafe { Tensor::from_ptr(tensor) });
    Some((output, lse))
}

/// An asynchronous copy of a CPU tensor to a CUDA device.
///
/// # Errors
/// `Internal` if pinned memory is not available.
pub fn upload(tensor: &Tensor, index: usize) -> Result<Tensor> {
    let index = c_int::try_from(index).map_err(|why| from_text(&why.to_string()))?;
    // SAFETY: the pointer is valid for the call.
    checked(unsafe { discffusion_upload(tensor.as_ptr(), index) })
}

/// An asynchronous copy of a tensor from a CUDA device to the CPU.
pub struct PendingCopy(*mut c_void);

/// Starts an asynchronous copy of a tensor from its CUDA device to the CPU.
///
/// # Errors
/// `Internal` if pinned memory is not available.
pub fn send(tensor: &Tensor) -> Result<PendingCopy> {
    // SAFETY: the pointer is valid for the call.
    let copy = unsafe { discffusion_send(tensor.as_ptr()) };
    if copy.is_null() { Err(from_text(&last_error())) } else { Ok(PendingCopy(copy)) }
}

impl PendingCopy {
    /// Waits for the copy and returns it.
    pub fn receive(mut self) -> Tensor {
        self.take().expect("it is received once")
    }

    fn take(&mut self) -> Option<Tensor> {
        let copy = std::mem::replace(&mut self.0, std::ptr::null_mut());
        // SAFETY: it was sent and not received yet.
        (!copy.is_null()).then(|| owned(unsafe { discffusion_receive(copy) }))
    }
}

impl Drop for PendingCopy {
    fn drop(&mut self) {
        // The device writes to its memory until the copy is complete.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.take()));
    }
}

/// The driver's handle of the stream on which libtorch computes in this thread; `None` without CUDA.
pub fn cuda_stream(index: usize) -> Option<*mut c_void> {
    let mut stream = std::ptr::null_mut();
    let index = c_int::try_from(index).ok()?;
    // SAFETY: there is room for the pointer.
    unsafe { discffusion_cuda_stream(index, &mut stream) }.then_some(stream)
}

/// Memory of a CUDA device in bytes.
#[derive(Debug, Clone, Copy)]
pub struct CudaMemory {
    /// Free memory of the device.
    pub free: usize,
    /// All memory of the device.
    pub total: usize,
    /// Memory in tensors of this process.
    pub allocated: usize,
    /// The largest `allocated` so far.
    pub peak: usize,
}

/// The memory of a CUDA device as libtorch's allocator reports it; `None` if CUDA is not in use.
pub fn cuda_memory(index: usize) -> Option<CudaMemory> {
    let mut bytes = [0; 4];
    let index = c_int::try_from(index).ok()?;
    // SAFETY: there is room for the four numbers.
    let known = unsafe { discffusion_cuda_memory(index, bytes.as_mut_ptr()) };
    let [free, total, allocated, peak] = bytes;
    known.then_some(CudaMemory { free, total, allocated, peak })
}

/// Returns memory that libtorch caches for later tensors to the CUDA devices.
pub fn empty_cuda_cache() {
    // SAFETY: takes and keeps nothing.
    unsafe { discffusion_empty_cuda_cache() }
}

/// A tensor that C++ returned. If it returned an error, this panics as tch's methods do; [`crate::runtime::guarded`]
/// catches that.
fn owned(made: *mut C_tensor) -> Tensor {
    take(made).unwrap_or_else(|why| panic!("{why}"))
}

fn checked(made: *mut C_tensor) -> Result<Tensor> {
    take(made).map_err(|why| from_text(&why))
}

fn take(made: *mut C_tensor) -> std::result::Result<Tensor, String> {
    if made.is_null() {
        return Err(last_error());
    }
    // SAFETY: a new tensor that nobody else owns.
    Ok(unsafe { Tensor::from_ptr(made) })
}

/// Called after C++ returned nothing: panics if that was because of an error.
fn none_or_panic() {
    let why = last_error();
    assert!(why.is_empty(), "{why}");
}
