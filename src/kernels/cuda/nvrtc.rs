//! NVIDIA's run-time compiler. It needs no device, so that compilation of the kernels is tested everywhere.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use super::library::{Library, beside_torch};

type Program = *mut c_void;
type Status = c_int;

/// The functions of the library that are used; they return 0 on success.
struct Nvrtc {
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    log: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    binary: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
}

impl Nvrtc {
    fn open() -> Result<&'static Self, String> {
        static OPENED: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
        let open = || {
            let mut names: Vec<String> = (12..=13).rev().map(|major| format!("libnvrtc.so.{major}")).collect();
            let beside = beside_torch();
            let of_torch = names.iter().flat_map(|name| beside.iter().map(move |folder| folder.join(name)));
            let of_torch: Vec<String> = of_torch.map(|path| path.display().to_string()).collect();
            // Torch's own comes first: it fits the driver that torch needs.
            names.splice(0..0, of_torch);
            // NVRTC opens its second library by name only, which finds it if it is open already.
            let files = beside.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
            let halves = files.filter(|file| file.file_name().to_string_lossy().starts_with("libnvrtc-builtins.so"));
            for half in halves {
                // If it cannot be opened, NVRTC reports that itself.
                let _ = Library::open(&[half.path().display().to_string()]);
            }
            let library = Library::open(&names).map_err(|why| format!("NVRTC cannot be opened ({why})"))?;
            // SAFETY: the types are those of nvrtc.h, where programs are pointers and statuses enumerations.
            unsafe {
                Ok(Nvrtc {
                    create: library.get(c"nvrtcCreateProgram")?,
                    compile: library.get(c"nvrtcCompileProgram")?,
                    log_size: library.get(c"nvrtcGetProgramLogSize")?,
                    log: library.get(c"nvrtcGetProgramLog")?,
                    size: library.get(c"nvrtcGetCUBINSize")?,
                    binary: library.get(c"nvrtcGetCUBIN")?,
                    destroy: library.get(c"nvrtcDestroyProgram")?,
                })
            }
        };
        OPENED.get_or_init(open).as_ref().map_err(Clone::clone)
    }
}

/// The name of a device's architecture, from its compute capability.
pub fn architecture((major, minor): (i32, i32)) -> String {
    format!("sm_{major}{minor}")
}

/// Compiles CUDA C++ to a binary for one architecture, such as `sm_90`.
///
/// # Errors
/// If there is no NVRTC, or with the compiler's messages.
pub fn compile(source: &str, architecture: &str) -> Result<Vec<u8>, String> {
    let nvrtc = Nvrtc::open()?;
    let source = CString::new(source).map_err(|why| why.to_string())?;
    let options: Vec<CString> = [&format!("--gpu-architecture={architecture}"), "--std=c++17"]
        .map(|option| CString::new(option).expect("no zero byte"))
        .into();
    let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let mut program: Program = ptr::null_mut();
    let (nothing, name) = (ptr::null(), c"discffusion.cu");
    // SAFETY: the texts live through the call, which makes a program; there are no headers.
    let made = unsafe { (nvrtc.create)(&mut program, source.as_ptr(), name.as_ptr(), 0, nothing, nothing) };
    if made != 0 {
        return Err(format!("NVRTC does not take the source (error {made})"));
    }
    // SAFETY: the program was made, and the options live through the call.
    let compiled = unsafe { (nvrtc.compile)(program, pointers.len() as c_int, pointers.as_ptr()) };
    // SAFETY: of one program, sizes and what has them.
    let text = unsafe {
        if compiled == 0 { taken(program, nvrtc.size, nvrtc.binary) } else { taken(program, nvrtc.log_size, nvrtc.log) }
    };
    // SAFETY: the program is not used any more.
    unsafe { (nvrtc.destroy)(&mut program) };
    match (compiled, text) {
        (0, Some(binary)) => Ok(binary),
        (0, None) => Err("NVRTC made no binary".into()),
        (status, log) => {
            let log = log.unwrap_or_default();
            let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
            Err(format!("NVRTC does not compile for {architecture} (error {status}): {log}"))
        }
    }
}

/// A text or binary of a program: asks for its size, then for its contents.
///
/// # Safety
/// The two functions belong together, and the program is alive.
unsafe fn taken(
    program: Program,
    size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    fill: unsafe extern "C" fn(Program, *mut c_char) -> Status,
) -> Option<Vec<u8>> {
    let mut length = 0;
    // SAFETY: as the caller says; there is room for one number.
    if unsafe { size(program, &mut length) } != 0 || length == 0 {
        return None;
    }
    let mut bytes = vec![0u8; length];
    // SAFETY: as the caller says; there is room for what it said to have.
    (unsafe { fill(program, bytes.as_mut_ptr().cast()) } == 0).then_some(bytes)
}
