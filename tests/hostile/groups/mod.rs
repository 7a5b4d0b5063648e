//! The attacks, by group.

use crate::attack::Attack;

macro_rules! groups {
    ($($module:ident => $name:literal),* $(,)?) => {
        $(mod $module;)*

        /// Every attack.
        pub fn all() -> Vec<Attack> {
            let mut all = Vec::new();
            $(all.extend($module::attacks().into_iter().map(|attack| Attack { group: $name, ..attack }));)*
            all
        }
    };
}

groups! {
    memory => "memory",
    deadline => "cpu and deadline",
    processes => "processes",
    descriptors => "descriptors",
    disk => "disk and inodes",
    paths => "paths, proc, dev",
    pipes => "pipes, signals, timers",
    host_calls => "host calls",
    modules => "modules",
    components => "components",
    http => "http",
    websocket => "websocket",
    archives => "archives",
    restart => "restart",
    tenants => "tenants",
    command_line => "command line",
    docker => "docker",
    floods => "floods",
}
