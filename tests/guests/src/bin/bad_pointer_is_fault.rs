//! An address outside the memory is `fault` in every call that takes one, never a trap.

use guests::{BAD_ADDRESS, Errno, Until, Vector, address, call, create, poll, scratch};

fn main() {
    const BAD: u32 = BAD_ADDRESS;
    let dir = scratch();
    let fd = create(dir, "file");
    let mut out = [0u8; 64];
    let good = address(out.as_mut_ptr());
    let name = "name";
    let (path, len) = (address(name), name.len() as u32);
    let bad_vector = [Vector { address: BAD, len: 32 }];
    let vectors = address(bad_vector.as_ptr());
    let results = [
        ("args_get table", call!(preview1::args_get(BAD, good))),
        ("args_get bytes", call!(preview1::args_get(good, BAD))),
        ("args_sizes_get count", call!(preview1::args_sizes_get(BAD, good))),
        ("args_sizes_get size", call!(preview1::args_sizes_get(good, BAD))),
        ("environ_get", call!(preview1::environ_get(BAD, BAD))),
        ("environ_sizes_get", call!(preview1::environ_sizes_get(good, BAD))),
        ("clock_res_get", call!(preview1::clock_res_get(0, u32::MAX - 3))),
        ("clock_time_get", call!(preview1::clock_time_get(0, 0, u32::MAX))),
        ("fd_fdstat_get", call!(preview1::fd_fdstat_get(fd, BAD))),
        ("fd_filestat_get", call!(preview1::fd_filestat_get(fd, BAD))),
        ("fd_prestat_get", call!(preview1::fd_prestat_get(3, BAD))),
        (
            "fd_prestat_dir_name",
            call!(preview1::fd_prestat_dir_name(3, u32::MAX, 9)),
        ),
        ("fd_write buffer", call!(preview1::fd_write(fd, vectors, 1, good))),
        ("fd_write vectors", call!(preview1::fd_write(fd, BAD, 4, good))),
        ("fd_pwrite", call!(preview1::fd_pwrite(fd, vectors, 1, 0, good))),
        ("fd_read buffer", call!(preview1::fd_read(fd, vectors, 1, good))),
        ("fd_read vectors", call!(preview1::fd_read(fd, BAD, 4, good))),
        ("fd_pread", call!(preview1::fd_pread(fd, vectors, 1, 0, good))),
        (
            "fd_readdir buffer",
            call!(preview1::fd_readdir(dir, BAD, 4096, 0, good)),
        ),
        (
            "fd_readdir out",
            call!(preview1::fd_readdir(dir, good, 64, 0, u32::MAX)),
        ),
        ("fd_seek", call!(preview1::fd_seek(fd, 0, 0, u32::MAX))),
        ("fd_tell", call!(preview1::fd_tell(fd, u32::MAX))),
        (
            "path_create_directory",
            call!(preview1::path_create_directory(dir, BAD, 64)),
        ),
        (
            "path_filestat_get path",
            call!(preview1::path_filestat_get(dir, 0, BAD, 64, good)),
        ),
        (
            "path_filestat_get out",
            call!(preview1::path_filestat_get(3, 0, address("tmp"), 3, BAD)),
        ),
        (
            "path_filestat_set_times",
            call!(preview1::path_filestat_set_times(dir, 0, BAD, 64, 0, 0, 0)),
        ),
        (
            "path_link old",
            call!(preview1::path_link(dir, 0, BAD, 64, dir, path, len)),
        ),
        (
            "path_link new",
            call!(preview1::path_link(dir, 0, path, len, dir, BAD, 64)),
        ),
        (
            "path_open path",
            call!(preview1::path_open(dir, 0, BAD, 64, 0, 2, 0, 0, good)),
        ),
        (
            "path_open length",
            call!(preview1::path_open(dir, 0, path, u32::MAX, 0, 2, 0, 0, good)),
        ),
        (
            "path_readlink path",
            call!(preview1::path_readlink(dir, BAD, 64, good, 8, good)),
        ),
        (
            "path_remove_directory",
            call!(preview1::path_remove_directory(dir, BAD, 64)),
        ),
        (
            "path_rename old",
            call!(preview1::path_rename(dir, BAD, 64, dir, path, len)),
        ),
        (
            "path_rename new",
            call!(preview1::path_rename(dir, path, len, dir, BAD, 64)),
        ),
        (
            "path_symlink target",
            call!(preview1::path_symlink(BAD, 64, dir, path, len)),
        ),
        (
            "path_symlink path",
            call!(preview1::path_symlink(path, len, dir, BAD, 64)),
        ),
        ("path_unlink_file", call!(preview1::path_unlink_file(dir, BAD, 64))),
        ("poll_oneoff", call!(preview1::poll_oneoff(BAD, good, 1, good))),
        ("random_get", call!(preview1::random_get(BAD, 64))),
        ("random_get length", call!(preview1::random_get(good, u32::MAX))),
    ];
    for (what, result) in results {
        assert_eq!(result, Err(Errno::FAULT), "{what}");
    }
    assert!(poll(&[Until::Writable(1)]).is_ok(), "the process goes on");
}
