// Processes that Python forks, which have no threads of the sessions of their parent.
#pragma once

namespace lumina {

/// Counts forks from now on.
void watch_forks();

/// How many forks lie between this process and the one that imported the module.
unsigned forks();

} // namespace lumina
