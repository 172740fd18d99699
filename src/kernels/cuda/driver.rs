//! The CUDA driver: loads compiled programs on a device and launches their kernels, in the context that libtorch uses.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use super::Grid;
use super::library::Library;

type Status = c_int;
type Context = *mut c_void;
type Handle = *mut c_void;

/// The functions of the driver that are used; they return 0 on success.
pub struct Driver {
    init: unsafe extern "C" fn(c_uint) -> Status,
    device: unsafe extern "C" fn(*mut c_int, c_int) -> Status,
    attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Status,
    retain: unsafe extern "C" fn(*mut Context, c_int) -> Status,
    push: unsafe extern "C" fn(Context) -> Status,
    pop: unsafe extern "C" fn(*mut Context) -> Status,
    load: unsafe extern "C" fn(*mut Handle, *const c_void) -> Status,
    function: unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> Status,
    #[allow(clippy::type_complexity, reason = "cuda.h")]
    launch: unsafe extern "C" fn(
        Handle,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        *mut c_void,
        *mut *mut c_void,
        *mut *mut c_void,
    ) -> Status,
}

/// CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
const CAPABILITY: [c_int; 2] = [75, 76];

impl Driver {
    /// Opens `libcuda.so.1`, once.
    pub fn open() -> Result<&'static Self, String> {
        static OPENED: OnceLock<Result<Driver, String>> = OnceLock::new();
        let open = || {
            let library = Library::open(&["libcuda.so.1".into()])
                .map_err(|why| format!("the CUDA driver cannot be opened ({why})"))?;
            // SAFETY: the types are those of cuda.h, where devices are integers and handles pointers.
            let driver = unsafe {
                Driver {
                    init: library.get(c"cuInit")?,
                    device: library.get(c"cuDeviceGet")?,
                    attribute: library.get(c"cuDeviceGetAttribute")?,
                    retain: library.get(c"cuDevicePrimaryCtxRetain")?,
                    push: library.get(c"cuCtxPushCurrent_v2")?,
                    pop: library.get(c"cuCtxPopCurrent_v2")?,
                    load: library.get(c"cuModuleLoadData")?,
                    function: library.get(c"cuModuleGetFunction")?,
                    launch: library.get(c"cuLaunchKernel")?,
                }
            };
            // SAFETY: 0 is the only value that it takes.
            check("cuInit", unsafe { (driver.init)(0) })?;
            Ok(driver)
        };
        OPENED.get_or_init(open).as_ref().map_err(Clone::clone)
    }

    /// The device of this index, in its primary context, which libtorch uses too.
    pub fn device(&'static self, index: usize) -> Result<DeviceContext, String> {
        let index = c_int::try_from(index).map_err(|why| why.to_string())?;
        let mut device = 0;
        // SAFETY: there is room for one number.
        check("cuDeviceGet", unsafe { (self.device)(&mut device, index) })?;
        let mut capability = [0; 2];
        for (value, which) in capability.iter_mut().zip(CAPABILITY) {
            // SAFETY: there is room for one number, and the device was given above.
            check("cuDeviceGetAttribute", unsafe { (self.attribute)(value, which, device) })?;
        }
        let mut context = ptr::null_mut();
        // SAFETY: there is room for one pointer; the context is never released, as libtorch keeps it too.
        check("cuDevicePrimaryCtxRetain", unsafe { (self.retain)(&mut context, device) })?;
        Ok(DeviceContext { driver: self, context, capability: (capability[0], capability[1]) })
    }
}

/// The primary context of a device.
pub struct DeviceContext {
    driver: &'static Driver,
    context: Context,
    /// Compute capability: major, minor.
    pub capability: (i32, i32),
}

impl DeviceContext {
    /// Loads a binary of NVRTC on the device.
    pub fn load(self, binary: &[u8]) -> Result<Module, String> {
        let mut handle = ptr::null_mut();
        self.within(|driver| {
            // SAFETY: the binary is whole: NVRTC made it, and it says its own size.
            check("cuModuleLoadData", unsafe { (driver.load)(&mut handle, binary.as_ptr().cast()) })
        })?;
        Ok(Module { device: self, handle })
    }

    /// Runs `work` with the context current in this thread.
    fn within<T>(&self, work: impl FnOnce(&Driver) -> Result<T, String>) -> Result<T, String> {
        // SAFETY: the context is alive.
        check("cuCtxPushCurrent", unsafe { (self.driver.push)(self.context) })?;
        let done = work(self.driver);
        let mut popped = ptr::null_mut();
        // SAFETY: takes what was pushed; there is room for one pointer.
        check("cuCtxPopCurrent", unsafe { (self.driver.pop)(&mut popped) })?;
        done
    }
}

/// A program on a device, which is never unloaded.
pub struct Module {
    device: DeviceContext,
    handle: Handle,
}

// SAFETY: modules and contexts may be used from any thread in which the context is current.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

/// An argument of a kernel, by value.
pub enum Argument {
    Pointer(u64),
    Long(i64),
    Int(i32),
    Float(f32),
}

impl Module {
    /// Launches a kernel; `arguments` are those of its declaration.
    pub fn launch(
        &self,
        function: &str,
        grid: Grid,
        stream: *mut c_void,
        mut arguments: Vec<Argument>,
    ) -> Result<(), String> {
        let name = CString::new(function).map_err(|why| why.to_string())?;
        let mut pointers: Vec<*mut c_void> = arguments.iter_mut().map(Argument::place).collect();
        self.device.within(|driver| {
            let mut kernel = ptr::null_mut();
            // SAFETY: the module is loaded, and the name lives through the call.
            check("cuModuleGetFunction", unsafe { (driver.function)(&mut kernel, self.handle, name.as_ptr()) })?;
            let ((x, y), threads) = (grid.blocks, grid.threads);
            let arguments = pointers.as_mut_ptr();
            // SAFETY: as many arguments as the kernel declares, of its types: the callers in `programs` stand beside
            // the declarations. They are copied before the call returns; tensors live until the stream has used them,
            // since libtorch gives their memory to later work of the same stream only.
            let status =
                unsafe { (driver.launch)(kernel, x, y, 1, threads, 1, 1, 0, stream, arguments, ptr::null_mut()) };
            check("cuLaunchKernel", status)
        })
    }
}

impl Argument {
    fn place(&mut self) -> *mut c_void {
        match self {
            Argument::Pointer(value) => ptr::from_mut(value).cast(),
            Argument::Long(value) => ptr::from_mut(value).cast(),
            Argument::Int(value) => ptr::from_mut(value).cast(),
            Argument::Float(value) => ptr::from_mut(value).cast(),
        }
    }
}

fn check(call: &str, status: Status) -> Result<(), String> {
    if status == 0 { Ok(()) } else { Err(format!("{call} failed (error {status})")) }
}
