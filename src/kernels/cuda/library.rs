//! Libraries that are opened at run time.

use std::ffi::{CStr, CString, c_void};
use std::path::{Path, PathBuf};

/// A library that is never closed.
#[derive(Clone, Copy)]
pub struct Library(*mut c_void);

// SAFETY: the handle is only looked names up in, which any thread may do.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Opens the first of some names or paths that exists.
    pub fn open(names: &[String]) -> Result<Self, String> {
        let mut why = String::from("it is not installed");
        for name in names {
            let Ok(name) = CString::new(name.as_str()) else { continue };
            // SAFETY: a vendor's library, which does nothing unusual when it is loaded.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            if !handle.is_null() {
                return Ok(Library(handle));
            }
            // SAFETY: the text of the call before, in this thread; null is checked.
            let error = unsafe { libc::dlerror() };
            if !error.is_null() {
                // SAFETY: as above.
                why = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
            }
        }
        Err(why)
    }

    /// A function by its name.
    ///
    /// # Safety
    /// `F` is the type of that function, a pointer.
    pub unsafe fn get<F: Copy>(self, name: &CStr) -> Result<F, String> {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>(), "functions are pointers");
        // SAFETY: the handle is open.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if found.is_null() {
            return Err(format!("{} is missing", name.to_string_lossy()));
        }
        // SAFETY: of the size of a pointer, and of the right type as the caller says.
        Ok(unsafe { std::mem::transmute_copy::<*mut c_void, F>(&found) })
    }
}

/// The folders in which torch's wheels install NVIDIA's libraries: that of the loaded libtorch, and `nvidia/*/lib` in
/// the same environment.
pub fn beside_torch() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let torch = maps
        .lines()
        .find_map(|line| line.find('/').map(|at| &line[at..]).filter(|path| path.ends_with("/libtorch_cpu.so")));
    let Some(lib) = torch.and_then(|path| Path::new(path).parent()) else { return vec![] };
    let mut folders = vec![lib.to_owned()];
    if let Some(site) = lib.parent().and_then(Path::parent) {
        let packages = std::fs::read_dir(site.join("nvidia")).into_iter().flatten().flatten();
        folders.extend(packages.map(|package| package.path().join("lib")));
    }
    folders
}
