#include "arena_shared.h"
