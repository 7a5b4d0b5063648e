//! Names of images and of files.

/// Whether a text may name an image: what Docker accepts, without digests and registry ports.
#[must_use]
pub fn is_image_name(text: &str) -> bool {
    let (name, tag) = text.split_once(':').unwrap_or((text, "latest"));
    let name_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let tag_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.len() <= 255
        && name
            .split('/')
            .all(|part| part.bytes().all(name_byte) && part.starts_with(|c: char| c.is_ascii_alphanumeric()))
        && !tag.is_empty()
        && tag.len() <= 128
        && tag.bytes().all(tag_byte)
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
}

/// An absolute path in the sandbox, without empty, `.` and `..` components.
#[must_use]
pub fn is_absolute(path: &str) -> bool {
    path == "/" || path.strip_prefix('/').is_some_and(is_relative)
}

/// A relative path without empty, `.` and `..` components.
#[must_use]
pub fn is_relative(path: &str) -> bool {
    path.len() <= 4096
        && !path.contains(['\0', '\\'])
        && path
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_are_those_of_docker() {
        for good in ["base", "python:3.12-slim", "library/debian", "a.b-c_d:Tag_1"] {
            assert!(is_image_name(good), "{good}");
        }
        for wrong in [
            "", ":x", "a:", "A", "a/../b", "a//b", "-a", "a:b:c", "a b", "a+b", "a@b", "/a",
        ] {
            assert!(!is_image_name(wrong), "{wrong}");
        }
    }
}
