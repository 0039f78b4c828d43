"""Functions that are never to blame for a report: it only passes through them.

One set for each kind of report, matched against a function's whole name in the
source. The machinery of traps and dumps is in all of them.
"""

from __future__ import annotations

import re
from functools import cached_property

# Dumping, trapping, warning: x86's entry code and kernel/panic.c.
_MACHINERY = r"""
    (__)?(dump|show)_(stack|trace|regs)\w* | _?v?panic | nmi_panic\w* | __warn\w* | warn_slowpath\w*
    | report_bug | handle_bug | (asm_)?(exc|sysvec)_\w+ | error_entry | error_return | paranoid_\w+
    | page_fault\w* | no_context | bad_area\w* | do_user_addr_fault | do_kern_addr_fault
    | do_(error_)?trap\w* | do_invalid_op | do_general_protection | general_protection
    | (__)?die(_\w+)? | oops_\w+ | kernelmode_fixup\w* | fixup_(exception|bug|umip\w*)
    | math_error | invalid_op
    | nmi_\w+ | asm_common_interrupt | common_interrupt | smp_\w+_interrupt | apic_timer_interrupt
    | check_panic_on_warn | add_taint | __ubsan_\w+ | ubsan_\w+ | handle_overflow
    | entry_SYSCALL\w* | do_syscall_\w+ | x64_sys_call | __(x64|ia32|do|se)_sys_\w+
    | ret_from_fork\w* | __fortify_\w+ | fortify_panic
    | __stack_chk_fail | usercopy_abort | __?check_(heap_)?object\w* | __virt_addr_valid
    | __phys_addr\w* | ftrace_\w+ | __do_kernel_fault
"""

# What a sanitizer or an allocator puts between the report and the access.
_SANITIZERS = r"""
    k[acm]san_\w+ | __k[acm]san_\w+ | __asan_\w+ | __hwasan_\w+ | __msan_\w+ | __tsan_\w+
    | print_(report|address_description|error_description|memory_metadata)\w* | end_report
    | check_memory_region\w* | check_region_inline | memory_is_\w+ | kfence_\w+ | __kfence_\w+
    | kmsan_\w+ | addr_has_metadata | instrument_\w+ | (arch_|raw_)?atomic(64|_long)?_\w+
    | (arch_|raw_)?(__)?(test|set|clear|change)(_and_\w+)?_bit\w* | __?(read|write)_once_size\w*
"""

# String and copy routines: whoever called them gave the wrong pointer.
_COPIES = r"""
    (__|rep_|__pi_)?mem(cpy|set|move|cmp|chr|scan|zero)\w* | strn?(len|cmp|cpy|cat|lcpy|chr)\w*
    | str(l|s)cpy | sized_str\w+ | vsnprintf | snprintf | string(_nocheck)?
    | (_|__|raw_|instrumented_)?copy_(to|from)_(user|iter|kernel)\w* | copy_user\w* | rep_movs\w*
    | _copy_(to|from)_iter\w* | csum_partial\w* | clear_user\w* | (__)?(get|put)_user\w*
"""

_LISTS = r"""
    __?list_(add|del)(_entry)?(_valid)?\w* | list_(add|del|move|splice)\w* | hlist_\w+
    | __hlist_\w+ | plist_\w+ | rb_(erase|insert)\w* | __rb_\w+
"""

_COUNTS = r"""
    refcount_\w+ | __refcount_\w+ | kref_\w+ | kobject_(get|put) | sock_(hold|put)
    | debug_print_object | debug_object_\w+ | __debug_\w+ | debug_check_no_obj_freed
    | in_dev_(hold|put) | dev_(hold|put)\w* | netdev_(hold|put)\w* | ref_tracker_\w+
"""

_FREEING = r"""
    (kv?|v)z?free(_(sensitive|const|bulk|rcu\w*))? | __kfree(_rcu\w*)? | kmem_cache_free\w*
    | (__)?slab_\w+ | (___)?cache_free
    | do_slab_free | free_to_partial_list | (__)?free_(pages?|slab|unref\w*)\w* | ___slab_alloc
    | __slab_(free|alloc)\w* | object_err | check_(object|bytes_and_report|slab)\w*
    | (alloc|free)_(consistency_checks|debug_processing)\w* | free_debug_processing | slab_err
    | get_partial\w* | new_slab | allocate_slab | on_freelist | process_slab | discard_slab
    | (post_alloc_hook|prep_new_page|free_pages_prepare|bad_page\w*|get_page_from_freelist)\w*
    | (__)?alloc_pages\w* | alloc_slab_page | rmqueue\w* | put_page | __put_(single_)?page
    | free_(page_is_bad|pcp\w+) | check_(new|free)_pages?\w* | (__)?folio_put\w*
"""

_ALLOCATING = r"""
    (__)?(do_)?k[mzcv]{1,2}(alloc|realloc)\w* | kvmalloc\w* | kvzalloc\w* | krealloc\w*
    | (__)?kmem_cache_(alloc|zalloc)\w* | kmemleak_\w+ | slab_\w+ | __slab_alloc\w*
    | ___slab_alloc\w* | (__)?vmalloc\w* | (__)?alloc_(skb|percpu|pages?|workqueue)\w*
    | pcpu_\w+ | kmalloc_\w+ | k?mem(dup|dup_user)\w* | kstrn?dup\w* | sk_(prot_)?alloc\w*
    | create_object | __create_object | sock_alloc\w* | skb_(clone|copy)\w* | kvasprintf\w*
    | kasprintf | __build_skb\w* | build_skb\w* | pskb_copy\w* | dst_alloc | kcalloc
"""

_LOCKS = r"""
    (__|___)?lock_(acquire|release)\w* | (__|do_)?raw_(spin|read|write)_\w+ | _raw_\w+ | __raw_\w+
    | (native_)?queued_\w+_slowpath | __pv_queued\w* | (__)?(spin|read|write)_(un)?lock\w*
    | (__|ww_)?mutex_(un|try)?lock\w* | __mutex_\w+ | __ww_mutex\w* | rt_(mutex|spin)_\w+
    | (__)?(down|up)(_read|_write)\w* | (__)?down | rwsem_\w+ | percpu_(down|up)\w*
    | __percpu_\w+ | osq_lock | (__)?might_(sleep|fault|lock|resched)\w* | __might_\w+
    | check_(prev_add|prevs_add|noncircular|deadlock|irq_usage|flags)\w* | validate_chain
    | mark_(lock|held_locks|usage)\w* | valid_state\w* | print_\w+ | lockdep_\w+ | __lockdep\w*
    | register_lock_class | rtnl_(net_)?(un|try)?lock\w* | (__)?lock_sock\w* | release_sock
    | seqcount_\w+ | do_write_seqcount_begin\w* | local_lock\w* | rcu_\w*read_\w*lock\w*
    | rcu_lock_acquire | find_(usage_\w+|lock\w+) | save_trace | graph_lock | __?bh_lock\w*
    | assign_lock_key | debug_check_no_locks_\w+ | debug_show_all_locks
"""

_SCHEDULER = r"""
    (__)?schedule\w* | context_switch | preempt_schedule\w* | io_schedule\w* | __cond_resched\w*
    | (__)?wait_(for|on|woken|event)\w* | (__)?wait_\w* | do_wait\w* | bit_wait\w* | finish_wait
    | __switch_to\w* | prepare_to_wait\w* | msleep\w* | usleep\w* | (do_)?nanosleep
    | (clock|hrtimer)_nanosleep\w* | synchronize_(rcu|net|srcu|sched)\w* | __wait_rcu_gp
    | rcu_barrier\w* | __flush_\w+ | flush_(work|workqueue)\w* | kthread_(park|stop)
    | __schedule_bug | __schedule_loop | bh_lock_\w+
"""

_WATCHDOGS = r"""
    watchdog_\w+ | softlockup_\w+ | hardlockup_\w+ | is_hardlockup\w* | perf_event_\w+
    | __?hrtimer_(run|interrupt)\w* | hrtimer_interrupt | __run_hrtimer | tick_\w+
    | update_process_times | scheduler_tick | sched_tick | rcu_(sched|pending|check|note|dump)\w*
    | print_(cpu|other_cpu)_stall\w* | check_cpu_stall | sched_show_task | trigger_\w+backtrace\w*
    | arch_trigger\w+ | nmi_cpu_backtrace\w* | nmi_trigger\w* | __sysvec_\w+ | local_apic_timer\w*
    | run_(timer|local)\w* | irq_exit\w* | __irq_exit\w* | (__)?do_softirq\w* | handle_softirqs
    | invoke_softirq | smp_call_function\w* | generic_exec_single | csd_lock\w* | cpu_relax
    | native_(safe_halt|halt|apic_\w+) | pv_native\w* | delay_(tsc|loop|halt\w*)
    | __?(const_)?u?delay | __(const_)?udelay | write_comp_data | __sanitizer_cov\w*
    | on_each_cpu\w* | stop_\w+
"""


class SkippedFrames:
    """Names of functions, as regular expressions.

    Compiled when the first name is asked for: most guests report nothing, and
    all of these take 30 ms.
    """

    def __init__(self, *groups: str) -> None:
        self._groups = groups

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(f"(?:{group})" for group in self._groups), re.VERBOSE)

    def __contains__(self, name: str) -> bool:
        return self._pattern.fullmatch(name) is not None


GENERAL = SkippedFrames(_MACHINERY)
MEMORY = SkippedFrames(_MACHINERY, _SANITIZERS, _COPIES, _LISTS, _COUNTS, _FREEING)
SLABS = SkippedFrames(_MACHINERY, _SANITIZERS, _FREEING, _ALLOCATING)
ACCESS = SkippedFrames(_MACHINERY, _SANITIZERS, _COPIES, _LISTS, _LOCKS)
COUNTS = SkippedFrames(_MACHINERY, _COUNTS, _LISTS, _SANITIZERS)
LOCKS = SkippedFrames(_MACHINERY, _LOCKS, _SANITIZERS, _SCHEDULER)
RCU = SkippedFrames(_MACHINERY, r"lockdep_rcu_\w+ | rcu_\w+ | __rcu_\w+ | __dev_get_by_\w+")
LEAKS = SkippedFrames(_MACHINERY, _ALLOCATING, _SANITIZERS)
STANDSTILL = SkippedFrames(_MACHINERY, _LOCKS, _SCHEDULER, _WATCHDOGS, _SANITIZERS)
# The sleeping function itself is the one to name, so only what checked it is skipped.
SLEEPING = SkippedFrames(
    _MACHINERY,
    r"""(__)?might_(sleep|resched|fault|alloc)\w* | ___might_sleep | __?cant_(sleep|migrate)
    | __schedule_bug | __schedule\w* | schedule\w* | preempt_schedule\w* | check_preemption\w*
    | debug_smp_processor_id | __this_cpu_preempt_check | lockdep_\w+""",
)
