#include "arena_records.h"
