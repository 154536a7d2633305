// One migration of one process, as the code carries it out: what etcd, the source, the target and a
// third node do, step by step, in any order, while nodes and links fail. scripts/model checks it;
// docs/migration.md, "The model", says which step is which function, and what is left out.
//
// The third node coordinates, and is a bystander: its part of the DC has gates too.
//
// Switches. What happens:
//   COPY     the record begins with `copying`; without: with `active`
//   BIND     the process binds another endpoint between the preflight and START
//   OWE      COMMIT leaves memory owed
//   FAULTS=N at most so many of these, wherever they are worst:
//   CRASH    a dvsd dies, and is started again       BREAK   the link between source and target
//   LOSE     a node is lost for good                 REBOOT  ... or comes back with nothing
//   EXPIRE   a node that lives is taken for dead     CANCEL  somebody writes `rolledback`
//   UNKNOWN  START is not answered: it was made, will be, or never is
//   BUG_...  a mistake, planted to be found

#ifndef FAULTS
#define FAULTS 1
#endif

// What a node does in one turn of its event loop. (SPIN does not tell which statements of a d_step it
// has come by; of an atomic it does.)
#ifdef COVERAGE
#define STEP atomic
#else
#define STEP d_step
#endif

#define S 0  // the nodes
#define T 1
#define C 2

// ---- etcd ----
// The migration's record, in a byte: its state, `memory`, and whether its slots name the endpoint
// that was bound after the preflight.
#define NONE 0
#define COPYING 1
#define ACTIVE 2
#define COMMITTED 3
#define ROLLEDBACK 4
#define HERE 0
#define OWED 1
#define MEMORY_LOST 2
#define RECORD(state, memory, slots) ((state) + 8 * (memory) + 32 * (slots))
#define STATE(r) ((r) & 7)
#define MEMORY(r) (((r) >> 3) & 3)
#define SLOTS(r) (((r) >> 5) & 1)
#define IS_OPEN(r) (STATE(r) == COPYING || STATE(r) == ACTIVE)
#define IS_DECIDED(r) (STATE(r) >= COMMITTED)

// The endpoint's record, whether it was bound again since, and which nodes' records there are. As
// long as anybody compares them no value comes twice, so it is as good as etcd's revision. (So is
// the record's.)
#define AT_S 0
#define AT_T 1
#define NOWHERE 2
#define PLACES(at, again, nodes) ((at) + 4 * (again) + 8 * (nodes))
#define AT(p) ((p) & 3)
#define AGAIN(p) (((p) >> 2) & 1)
#define NODES(p) (((p) >> 3) & 3)
#define PLACE(p) ((p) & 7)
#define HAS_NODE(p, n) ((NODES(p) >> (n)) & 1)

// The revisions that somebody has still to see, the oldest first; how far each node has come.
#ifndef LOG
#define LOG 9
#endif
byte records[LOG], places[LOG];
byte newest;
byte seen[3];
#define RECORD_NOW records[newest]
#define PLACES_NOW places[newest]
#define RECORD_AT(n) records[seen[n]]
#define PLACES_AT(n) places[seen[n]]
#define IS_CURRENT(n) (RECORD_AT(n) == RECORD_NOW)
#define PLACE_IS_CURRENT(n) (PLACE(PLACES_AT(n)) == PLACE(PLACES_NOW))

bool lease[2];  // of a node that was lost: still to end
bool bare[2];  // a node that was lost, and has nothing any more
// Requests under way of a dvsd that has died: etcd may still get them.
bool late_start, late_freeze, late_commit, late_slots;

// ---- what outlives a dvsd ----
#define DOWN 0
#define UP 1
#define LOST 2
byte node[3];
#define IS_UP(n) (node[n] == UP)

#define NO_COPY 0
#define RUNS 1
#define STOPPED 2  // frozen at the source, held at the target
#define ENDED 3
#define WITH_NODE 4  // lost with its node
byte copy[2];
#define IS_THERE(n) (copy[n] == RUNS || copy[n] == STOPPED)

byte gate[3];  // of the two endpoints in the node's region: bits, 1: closed
#define CLOSED(r) (1 + 2 * SLOTS(r))
#define OPEN_GATES(n, r) gate[n] = gate[n] & (3 - CLOSED(r))
bool bound_more;  // the process has bound the second endpoint
bool again;       // the incarnation that the source's region knows
bool images;      // the target's image directory, with
bool capsule;     // ... the incarnation that the capsule was made of; then the region's
bool taken_in;    // the endpoints are in the target's region

#define FILLING 1
#define COMPLETE 2
#define FAILED 3
byte pager;

// ---- what a dvsd has in memory ----
// Source; 0: none. `source_fails`: it proposes ROLLBACK, of the slots (value - 1), also without one.
#define S_COPYING 1
#define S_SETTLING 2
#define S_DUMPING 3  // with kFreezing and kSyncing: work that must end before an outcome is carried out
#define S_SENDING 4
#define S_WAITING 5
#define S_CARRIES_OUT 6
#define S_THAWED 7
#define S_KEEPS 8
byte source;
byte source_fails;
bool freezes;       // propose_freeze() under way
bool target_ready;  // migrate.expect was answered
bool watches_s;     // the endpoint's process is among bound_

// Target; 0: none. `target_fails` likewise; `commits`: propose(kCommitted), 1: for the first time.
#define T_RECEIVING 1
#define T_RESTORING 2
#define T_DECIDING 3
#define T_WAITING 4
#define T_COMMITS 5
#define T_RESUMES 6
#define T_FILLS 7
#define T_SETTLES 8
#define T_CLEANS_UP 9
#define T_ROLLS_BACK 10
byte target;
byte target_fails;
byte commits;
bool commit_slots;
bool watches_t;

// Coordinator; 0: none.
#define CHECKED 1
#define STARTED 2
#define ANSWERED 3
byte coordinator;

// ---- the link ----
bool sent, sent_again;      // all images are under way; the incarnation in their capsule
bool down_at_s, down_at_t;  // on_link_down() is to come

byte faults_left = FAULTS;
hidden byte before, after, had, i, unseen;  // within a step

// ---- writing and watching ----

// What is no news to a node, it has seen at once.
inline skip_news(n, of_places) {
  do
  :: seen[n] < newest && records[seen[n]] == records[seen[n] + 1] &&
     (places[seen[n]] & of_places) == (places[seen[n] + 1] & of_places) -> seen[n]++
  :: else -> break
  od
}

// Nobody looks back: what all have seen is forgotten. A node that is not there sees nothing; when
// it is back it reads everything.
inline forget() {
  skip_news(S, PLACES(3, 1, 2));
  skip_news(T, PLACES(3, 1, 1));
  skip_news(C, PLACES(0, 0, 3));
  if :: IS_UP(S) :: else -> seen[S] = newest fi;
  if :: IS_UP(T) :: else -> seen[T] = newest fi;
  if :: IS_UP(C) :: else -> seen[C] = newest fi;
  unseen = seen[S];
  if :: seen[T] < unseen -> unseen = seen[T] :: else fi;
  if :: seen[C] < unseen -> unseen = seen[C] :: else fi;
  if
  :: unseen > 0 ->
    i = 0;
    do
    :: i + unseen <= newest -> records[i] = records[i + unseen]; places[i] = places[i + unseen]; i++
    :: else -> break
    od;
    do
    :: i <= newest -> records[i] = 0; places[i] = 0; i++
    :: else -> break
    od;
    newest = newest - unseen;
    seen[S] = seen[S] - unseen; seen[T] = seen[T] - unseen; seen[C] = seen[C] - unseen
  :: else
  fi
}

// One transaction. A request that was sent before it and is not there yet will be refused.
inline write(what, where) {
  after = what;
  i = where;
  if
  :: after != RECORD_NOW || PLACE(i) != PLACE(PLACES_NOW) ->
    late_freeze = 0; late_commit = 0; late_slots = 0
  :: else
  fi;
  assert(newest + 1 < LOG);
  newest++;
  records[newest] = after;
  places[newest] = i;
  forget()
}
#define MOVED_TO(at, again) PLACES(at, again, NODES(PLACES_NOW))

// What the writer's record says of the slots: that of when it began to propose, or the newest.
#ifdef BUG_SLOTS
#define SLOTS_OF(captured, n) (captured)
#else
#define SLOTS_OF(captured, n) SLOTS(RECORD_AT(n))
#endif

#ifdef BUG_NO_COMPARE
#define MAY_WRITE(n) IS_OPEN(RECORD_AT(n))
#else
#define MAY_WRITE(n) (IS_OPEN(RECORD_AT(n)) && IS_CURRENT(n))
#endif

inline write_rollback(slots) {
  assert(IS_OPEN(RECORD_NOW));
  write(RECORD(ROLLEDBACK, HERE, slots), PLACES_NOW)
}

#ifdef OWE
#define LEFT_AT_COMMIT OWED
#else
#define LEFT_AT_COMMIT HERE
#endif

inline write_commit(slots) {
  assert(STATE(RECORD_NOW) == ACTIVE);
  assert(AT(PLACES_NOW) == AT_S);
  write(RECORD(COMMITTED, LEFT_AT_COMMIT, slots), MOVED_TO(AT_T, AGAIN(PLACES_NOW)))
}

inline write_memory(memory) {
  assert(STATE(RECORD_NOW) == COMMITTED && MEMORY(RECORD_NOW) == OWED);
  write(RECORD(COMMITTED, memory, SLOTS(RECORD_NOW)), PLACES_NOW)
}

// ---- source ----

inline thaw() {
  if
  :: copy[S] == STOPPED ->
    assert(STATE(RECORD_NOW) == ROLLEDBACK);
    copy[S] = RUNS;
    assert(copy[T] != RUNS)
  :: else
  fi
}

inline end_departed() {
  assert(STATE(RECORD_NOW) == COMMITTED && MEMORY(RECORD_NOW) != OWED);
  assert(MEMORY(RECORD_NOW) == MEMORY_LOST || pager != FILLING);
  if :: IS_THERE(S) -> copy[S] = ENDED :: else fi
}

inline fail_source() {
  source_fails = 1 + SLOTS(RECORD_AT(S));
  target_ready = 0;
  if :: source != S_DUMPING -> source = S_WAITING :: else fi;
#ifdef BUG_THAW_WITHOUT_OUTCOME
  thaw()
#endif
}
#define MAY_FAIL_S (!source_fails && !IS_DECIDED(RECORD_AT(S)))
#define WORKS_S (S_COPYING <= source && source <= S_SENDING)

inline source_sees() {
  before = RECORD_AT(S);
  had = HAS_NODE(PLACES_AT(S), T);
  seen[S]++;
  after = RECORD_AT(S);
  if
  :: before == after
  :: STATE(before) == NONE && STATE(after) == COPYING -> source = S_COPYING
  :: STATE(before) == NONE && STATE(after) == ACTIVE -> gate[S] = CLOSED(after); source = S_SETTLING
  :: STATE(before) == COPYING && STATE(after) == ACTIVE ->
    gate[S] = CLOSED(after);
    freezes = 0;
    if :: source == S_COPYING && !source_fails -> source = S_SETTLING :: else fi
  :: IS_OPEN(before) && IS_DECIDED(after) ->
    source_fails = 0; freezes = 0; target_ready = 0;
    if :: STATE(after) == COMMITTED -> watches_s = 0 :: else fi;
    if
    :: source == 0 -> OPEN_GATES(S, after)
    :: source == S_DUMPING
    :: else -> source = S_CARRIES_OUT
    fi
  :: IS_DECIDED(before) && before != after
  fi;
  if
  :: had && !HAS_NODE(PLACES_AT(S), T) && S_COPYING <= source && source <= S_WAITING && MAY_FAIL_S ->
    fail_source()
  :: else
  fi;
  forget()
}

// Participant::recover(), unless the DC's part is made anew (DcPart::create).
#ifdef BUG_REBOOT
#define RECOVERS(n) (!bare[n])
#else
#define RECOVERS(n) 1
#endif

inline source_recovers() {
  node[S] = UP;
  seen[S] = newest;
  after = RECORD_NOW;
#ifdef BUG_UNBOUND
  watches_s = IS_THERE(S) && AT(PLACES_NOW) == AT_S;
#else
  watches_s = IS_THERE(S) && STATE(after) != COMMITTED;
#endif
  if
  :: !IS_THERE(S) -> if :: IS_OPEN(after) && RECOVERS(S) -> source_fails = 1 + SLOTS(after) :: else fi
  :: IS_THERE(S) && STATE(after) == NONE
  :: IS_THERE(S) && IS_OPEN(after) -> source = S_WAITING; source_fails = 1 + SLOTS(after)
  :: IS_THERE(S) && STATE(after) == COMMITTED ->
    OPEN_GATES(S, after); watches_s = 0; source = S_KEEPS
#ifdef BUG_RECOVERY_KILLS
  :: IS_THERE(S) && STATE(after) == ROLLEDBACK -> end_departed()
#else
  :: IS_THERE(S) && STATE(after) == ROLLEDBACK ->
    thaw(); OPEN_GATES(S, after)
#endif
  fi;
#ifndef BUG_STALE_GATES
  if :: STATE(after) != ACTIVE -> gate[S] = 0 :: else fi;
#endif
  bare[S] = 0
}

#ifdef BUG_OWED
#define LOOKS_S (source == S_KEEPS)
#else
#define LOOKS_S 1
#endif

proctype Source() {
end:
  do
  :: STEP { IS_UP(S) && seen[S] < newest -> source_sees() }
  :: STEP { node[S] == DOWN -> source_recovers() }
  // The lease was lost: a new one. Then the endpoint is bound again.
  :: STEP { IS_UP(S) && !HAS_NODE(PLACES_NOW, S) ->
       write(RECORD_NOW, PLACES(AT(PLACES_NOW), AGAIN(PLACES_NOW), NODES(PLACES_NOW) | 1)) }
  :: STEP { IS_UP(S) && watches_s && HAS_NODE(PLACES_NOW, S) && PLACE_IS_CURRENT(S) &&
       AT(PLACES_NOW) == NOWHERE -> again = 1; write(RECORD_NOW, MOVED_TO(AT_S, 1)) }

  // await_target()
  :: STEP { IS_UP(S) && WORKS_S && MAY_FAIL_S && !target_ready && IS_UP(T) && target != 0 &&
       !down_at_s && !down_at_t -> target_ready = 1 }
  :: STEP { IS_UP(S) && WORKS_S && MAY_FAIL_S && !target_ready -> fail_source() }
  :: STEP { IS_UP(S) && down_at_s ->
       down_at_s = 0;
#ifndef BUG_LINK_IGNORED
       if
       :: S_COPYING <= source && source <= S_WAITING && MAY_FAIL_S -> fail_source()
       :: else
       fi
#endif
     }

  // Rounds of copying, the last of them over; START.
  :: STEP { IS_UP(S) && source == S_COPYING && MAY_FAIL_S && target_ready && !freezes &&
       copy[S] == RUNS -> freezes = 1 }
  :: STEP { IS_UP(S) && source == S_COPYING && MAY_FAIL_S && target_ready && !freezes -> fail_source() }
  :: STEP { IS_UP(S) && freezes && STATE(RECORD_AT(S)) == COPYING && IS_CURRENT(S) &&
       PLACE_IS_CURRENT(S) && AT(PLACES_NOW) != NOWHERE ->
       freezes = 0;
       write(RECORD(ACTIVE, HERE, bound_more), PLACES_NOW) }

  // settle(), freeze()
  :: STEP { IS_UP(S) && source == S_SETTLING && MAY_FAIL_S && copy[S] == RUNS &&
       bound_more == SLOTS(RECORD_AT(S)) && AT(PLACES_AT(S)) == AT_S ->
       copy[S] = STOPPED; source = S_DUMPING }
  :: STEP { IS_UP(S) && source == S_SETTLING && MAY_FAIL_S -> fail_source() }
  // sync(), dump(): it ends, well or not; whatever came meanwhile is taken up now.
  :: STEP { IS_UP(S) && source == S_DUMPING && MAY_FAIL_S -> source = S_SENDING }
  :: STEP { IS_UP(S) && source == S_DUMPING && MAY_FAIL_S -> source = 0; fail_source() }
  :: STEP { IS_UP(S) && source == S_DUMPING && source_fails -> source = S_WAITING }
#ifndef BUG_OUTCOME_WHILE_WORKING
  :: STEP { IS_UP(S) && source == S_DUMPING && IS_DECIDED(RECORD_AT(S)) -> source = S_CARRIES_OUT }
#endif
  :: STEP { IS_UP(S) && source == S_SENDING && MAY_FAIL_S && target_ready && !down_at_s ->
       sent = 1; sent_again = again; target_ready = 0; source = S_WAITING }

  // propose(kRolledBack)
  :: STEP { IS_UP(S) && source_fails && MAY_WRITE(S) -> write_rollback(SLOTS_OF(source_fails - 1, S)) }
#ifdef BUG_GIVES_UP
  :: STEP { IS_UP(S) && source_fails && IS_OPEN(RECORD_AT(S)) && !IS_CURRENT(S) -> source_fails = 0 }
#endif

  // go_on()
  :: STEP { IS_UP(S) && source == S_CARRIES_OUT && STATE(RECORD_AT(S)) == ROLLEDBACK ->
       thaw(); source = S_THAWED }
#ifdef BUG_GATE_LEFT
  :: STEP { IS_UP(S) && source == S_THAWED -> source = 0 }
#else
  :: STEP { IS_UP(S) && source == S_THAWED -> OPEN_GATES(S, RECORD_AT(S)); source = 0 }
#endif
  // let_go(), end_departed()
  :: STEP { IS_UP(S) && source == S_CARRIES_OUT && STATE(RECORD_AT(S)) == COMMITTED ->
       OPEN_GATES(S, RECORD_AT(S)); source = S_KEEPS }
#ifdef BUG_FREED_AT_COMMIT
  :: STEP { IS_UP(S) && source == S_KEEPS -> end_departed(); source = 0 }
#else
  :: STEP { IS_UP(S) && source == S_KEEPS && MEMORY(RECORD_AT(S)) != OWED ->
       end_departed(); source = 0 }
#endif
  // look_for_lost_targets()
#ifndef BUG_LOST_TARGET
  :: STEP { IS_UP(S) && LOOKS_S && MEMORY(RECORD_AT(S)) == OWED && IS_CURRENT(S) &&
       !HAS_NODE(PLACES_AT(S), T) -> write_memory(MEMORY_LOST) }
#endif
  od
}

// ---- target ----

inline fail_target() {
  target = T_WAITING;
  target_fails = 1 + SLOTS(RECORD_AT(T))
}

inline target_sees() {
  before = RECORD_AT(T);
  seen[T]++;
  after = RECORD_AT(T);
  if
  :: before == after
  :: STATE(before) == NONE && IS_OPEN(after) ->
    target = T_RECEIVING;
    images = 1;
    if :: STATE(after) == ACTIVE -> gate[T] = CLOSED(after) :: else fi
  :: STATE(before) == COPYING && STATE(after) == ACTIVE -> gate[T] = CLOSED(after)
  :: IS_OPEN(before) && IS_DECIDED(after) ->
    target_fails = 0; commits = 0; commit_slots = 0;
    if :: target == 0 || STATE(after) == ROLLEDBACK -> OPEN_GATES(T, after) :: else fi;
    if
    :: target == 0 || target == T_RESTORING
    :: else -> target = (STATE(after) == COMMITTED -> T_COMMITS : T_ROLLS_BACK)
    fi
  :: IS_DECIDED(before) && before != after
  fi;
#ifndef BUG_LOST_SOURCE
  if
  :: target == T_RECEIVING && IS_OPEN(after) && !HAS_NODE(PLACES_AT(T), S) -> fail_target()
  :: else
  fi;
#endif
  forget()
}

inline target_recovers() {
  node[T] = UP;
  seen[T] = newest;
  after = RECORD_NOW;
#ifdef BUG_UNBOUND
  watches_t = copy[T] == RUNS && AT(PLACES_NOW) == AT_T;
#else
  watches_t = copy[T] == RUNS;
#endif
  if
  :: !images ->
    if
    :: IS_OPEN(after) && RECOVERS(T) -> target_fails = 1 + SLOTS(after)
    :: STATE(after) == COMMITTED && MEMORY(after) == OWED && RECOVERS(T) -> target = T_SETTLES
    :: else
    fi
  :: images && STATE(after) == NONE -> images = 0
#ifdef BUG_RECOVERY_RESUMES
  :: images && IS_OPEN(after) -> target = T_COMMITS
#endif
#ifdef BUG_IMAGES_FORGOTTEN
  :: images && IS_OPEN(after)
#endif
#if !defined(BUG_RECOVERY_RESUMES) && !defined(BUG_IMAGES_FORGOTTEN)
  :: images && IS_OPEN(after) -> target = T_RECEIVING; target_fails = 1 + SLOTS(after)
#endif
#ifdef BUG_HELD_IS_KILLED
  :: images && IS_DECIDED(after) -> target = T_ROLLS_BACK
#else
  :: images && STATE(after) == COMMITTED -> target = T_COMMITS
  :: images && STATE(after) == ROLLEDBACK -> target = T_ROLLS_BACK
#endif
  fi;
#ifndef BUG_STALE_GATES
  if :: STATE(after) == ACTIVE || (STATE(after) == COMMITTED && images) :: else -> gate[T] = 0 fi;
#endif
  bare[T] = 0
}

#ifdef BUG_INCARNATION
#define IS_OF_CAPSULE 1
#else
#define IS_OF_CAPSULE (AGAIN(PLACES_NOW) == capsule)
#endif
#ifdef BUG_NO_PLACES
#define PLACES_HOLD 1
#else
#define PLACES_HOLD (PLACE_IS_CURRENT(T) && AT(PLACES_NOW) != NOWHERE && IS_OF_CAPSULE)
#endif
#define COMMIT_HOLDS (MAY_WRITE(T) && STATE(RECORD_AT(T)) == ACTIVE && PLACES_HOLD)

proctype Target() {
end:
  do
  :: STEP { IS_UP(T) && seen[T] < newest -> target_sees() }
  :: STEP { node[T] == DOWN -> target_recovers() }
  :: STEP { IS_UP(T) && !HAS_NODE(PLACES_NOW, T) ->
       write(RECORD_NOW, PLACES(AT(PLACES_NOW), AGAIN(PLACES_NOW), NODES(PLACES_NOW) | 2)) }
  :: STEP { IS_UP(T) && watches_t && HAS_NODE(PLACES_NOW, T) && PLACE_IS_CURRENT(T) &&
       AT(PLACES_NOW) == NOWHERE -> capsule = 1; write(RECORD_NOW, MOVED_TO(AT_T, 1)) }
  // discard_unless_begun()
  :: STEP { IS_UP(T) && images && STATE(RECORD_AT(T)) == NONE && coordinator != CHECKED ->
       images = 0 }

  :: STEP { IS_UP(T) && down_at_t ->
       down_at_t = 0;
#ifndef BUG_LINK_IGNORED
       if :: target == T_RECEIVING && IS_OPEN(RECORD_AT(T)) -> fail_target() :: else fi
#endif
     }
  // on_image(), restore(): criu needs dvsd no more.
  :: STEP { IS_UP(T) && sent && !down_at_t ->
       sent = 0;
       if
       :: target == T_RECEIVING ->
         assert(copy[T] == NO_COPY);
         capsule = sent_again; copy[T] = STOPPED; target = T_RESTORING
       :: else
       fi;
       sent_again = 0 }
  :: STEP { IS_UP(T) && target == T_RESTORING && IS_OPEN(RECORD_AT(T)) ->
       copy[T] = NO_COPY; fail_target() }
  :: STEP { IS_UP(T) && target == T_RESTORING && IS_OPEN(RECORD_AT(T)) ->
       target = T_DECIDING; commits = 1; commit_slots = SLOTS(RECORD_AT(T)) }
  :: STEP { IS_UP(T) && target == T_RESTORING && IS_DECIDED(RECORD_AT(T)) ->
       target = (STATE(RECORD_AT(T)) == COMMITTED -> T_COMMITS : T_ROLLS_BACK) }
#ifdef BUG_RESUME_WITHOUT_OUTCOME
  :: STEP { IS_UP(T) && target == T_DECIDING -> copy[T] = RUNS; assert(copy[S] != RUNS) }
#endif

  // propose(): refused for the second time, COMMIT becomes ROLLBACK.
  :: STEP { IS_UP(T) && commits && IS_OPEN(RECORD_AT(T)) && COMMIT_HOLDS &&
       HAS_NODE(PLACES_NOW, T) ->
       commits = 0; lease[T] = 0; write_commit(SLOTS_OF(commit_slots, T)) }
  :: STEP { IS_UP(T) && commits && IS_OPEN(RECORD_AT(T)) && !COMMIT_HOLDS ->
       if
       :: commits == 1 -> commits = 2
       :: else -> commits = 0; target_fails = 1 + commit_slots
       fi }
  :: STEP { IS_UP(T) && target_fails && MAY_WRITE(T) -> write_rollback(SLOTS_OF(target_fails - 1, T)) }

  // take_in(), HeldTree::resume()
  :: STEP { IS_UP(T) && target == T_COMMITS ->
#ifndef BUG_TAKEN_IN_LATE
       taken_in = 1; gate[T] = 0;
#endif
#ifdef BUG_UNBOUND
       watches_t = AT(PLACES_AT(T)) == AT_T;
#else
       watches_t = IS_THERE(T);
#endif
       target = T_RESUMES }
  :: STEP { IS_UP(T) && target == T_RESUMES ->
       if
       :: copy[T] == STOPPED ->
         assert(STATE(RECORD_NOW) == COMMITTED && taken_in);
         copy[T] = RUNS;
         assert(copy[S] != RUNS);
         pager = (MEMORY(RECORD_AT(T)) == OWED -> FILLING : COMPLETE)
       :: else
       fi;
#ifdef BUG_TAKEN_IN_LATE
       taken_in = 1; gate[T] = 0;
#endif
       target = T_FILLS }
  // await_memory(), memory_ended(), settle_memory()
#ifdef BUG_HERE_TOO_EARLY
  :: STEP { IS_UP(T) && target == T_FILLS ->
       target = (MEMORY(RECORD_AT(T)) == OWED -> T_SETTLES : T_CLEANS_UP) }
  :: STEP { IS_UP(T) && target == T_SETTLES && MEMORY(RECORD_AT(T)) == OWED && IS_CURRENT(T) ->
       write_memory(HERE) }
#else
  :: STEP { IS_UP(T) && target == T_FILLS && pager != FILLING ->
       target = (MEMORY(RECORD_AT(T)) == OWED -> T_SETTLES : T_CLEANS_UP) }
  :: STEP { IS_UP(T) && target == T_SETTLES && MEMORY(RECORD_AT(T)) == OWED && IS_CURRENT(T) ->
       write_memory((pager == COMPLETE -> HERE : MEMORY_LOST)) }
#endif
  :: STEP { IS_UP(T) && target == T_SETTLES && MEMORY(RECORD_AT(T)) != OWED -> target = T_CLEANS_UP }
  // HeldTree::kill(), clean_up()
  :: STEP { IS_UP(T) && target == T_ROLLS_BACK ->
       assert(STATE(RECORD_NOW) == ROLLEDBACK && copy[T] != RUNS);
       if :: copy[T] == STOPPED -> copy[T] = NO_COPY :: else fi;
       target = T_CLEANS_UP }
  :: STEP { IS_UP(T) && target == T_CLEANS_UP -> images = 0; target = 0 }
  od
}

// dvs-pager lives apart from dvsd, but gets what is owed by way of both.
#define IS_SERVED (IS_UP(T) && IS_UP(S) && copy[S] == STOPPED && \
                   (STATE(RECORD_AT(S)) == ACTIVE || MEMORY(RECORD_AT(S)) == OWED))
proctype Pager() {
end:
  do
  :: STEP { pager == FILLING && IS_SERVED -> pager = COMPLETE }
  // Its patience is over, or the source says that it keeps nothing.
  :: STEP { pager == FILLING && !IS_SERVED -> pager = FAILED; copy[T] = ENDED; watches_t = 0 }
  od
}

// ---- coordinator and bystander ----

inline third_sees() {
  before = RECORD_AT(C);
  seen[C]++;
  after = RECORD_AT(C);
  if
  :: before == after
  :: before != after && STATE(after) == COPYING
  :: before != after && STATE(after) == ACTIVE -> gate[C] = CLOSED(after)
  :: IS_OPEN(before) && IS_DECIDED(after) -> OPEN_GATES(C, after)
  :: IS_DECIDED(before) && before != after
  fi;
  forget()
}

inline third_recovers() {
  node[C] = UP;
  seen[C] = newest;
#ifndef BUG_STALE_GATES
  if :: STATE(RECORD_NOW) != ACTIVE -> gate[C] = 0 :: else fi
#endif
}

#ifdef COPY
#define STATE_AT_START COPYING
#else
#define STATE_AT_START ACTIVE
#endif
#define START_HOLDS (STATE(RECORD_NOW) == NONE && PLACE(PLACES_NOW) == AT_S)

proctype Third() {
end:
  do
  :: STEP { IS_UP(C) && seen[C] < newest -> third_sees() }
  :: STEP { node[C] == DOWN -> third_recovers() }
  // start(), until it is known to be written, or that it cannot be
  :: STEP { IS_UP(C) && coordinator == CHECKED && START_HOLDS ->
       coordinator = STARTED; write(RECORD(STATE_AT_START, HERE, 0), PLACES_NOW) }
  :: STEP { IS_UP(C) && coordinator == CHECKED && STATE(RECORD_NOW) != NONE -> coordinator = STARTED }
  :: STEP { IS_UP(C) && coordinator == CHECKED && STATE(RECORD_NOW) == NONE &&
       (late_start || !START_HOLDS) -> coordinator = ANSWERED }
  // give_up(), when it is stopped for too long; its record is that of START.
  :: STEP { IS_UP(C) && coordinator == STARTED && MAY_WRITE(C) && STATE(RECORD_AT(C)) == ACTIVE ->
       write_rollback(SLOTS_OF(0, C)) }
  // on_nodes_changed(): both are lost.
  :: STEP { IS_UP(C) && MAY_WRITE(C) && !HAS_NODE(PLACES_AT(C), S) && !HAS_NODE(PLACES_AT(C), T) ->
       write_rollback(SLOTS(RECORD_AT(C))) }
#if !defined(BUG_OWED) && !defined(BUG_LOST_TARGET)
  :: STEP { IS_UP(C) && MEMORY(RECORD_AT(C)) == OWED && IS_CURRENT(C) && !HAS_NODE(PLACES_AT(C), T) ->
       write_memory(MEMORY_LOST) }
#endif
  // finish()
  :: STEP { IS_UP(C) && coordinator == STARTED && IS_DECIDED(RECORD_AT(C)) &&
       MEMORY(RECORD_AT(C)) != OWED -> coordinator = ANSWERED }
  od
}

// ---- the world ----

// What hangs on a lease ends with it. (A COMMIT under way that names the target's is refused.)
inline lose_places(n, nodes) {
  i = AT(PLACES_NOW);
  if :: i == n -> i = NOWHERE :: else fi;
  write(RECORD_NOW, PLACES(i, AGAIN(PLACES_NOW), nodes))
}
inline end_lease(n) {
  lease[n] = 0;
  unseen = NODES(PLACES_NOW);
  if :: node[n] == LOST -> unseen = unseen & (3 - (1 << n)) :: else fi;
  lose_places(n, unseen)
}

proctype World() {
end:
  do
  :: STEP { lease[S] -> end_lease(S) }
  :: STEP { lease[T] -> late_commit = 0; late_slots = 0; end_lease(T) }
  :: STEP { late_start && START_HOLDS -> late_start = 0; write(RECORD(STATE_AT_START, HERE, 0), PLACES_NOW) }
  :: STEP { late_start -> late_start = 0 }
  :: STEP { late_freeze -> write(RECORD(ACTIVE, HERE, bound_more), PLACES_NOW) }
  :: STEP { late_freeze -> late_freeze = 0 }
  :: STEP { late_commit -> write_commit(SLOTS_OF(late_slots, T)) }
  :: STEP { late_commit -> late_commit = 0; late_slots = 0 }
  od
}

proctype Process() {
  if
#ifdef BIND
  :: STEP { IS_UP(S) && copy[S] == RUNS && (source == S_COPYING -> !freezes :
       source == 0 && STATE(RECORD_AT(S)) == NONE) -> bound_more = 1 }
#endif
  :: true
  fi
}

inline break_link() {
  sent = 0; sent_again = 0;
  down_at_s = IS_UP(S);
  down_at_t = IS_UP(T)
}

inline source_dies() {
  late_freeze = freezes && STATE(RECORD_AT(S)) == COPYING && IS_CURRENT(S) && PLACE_IS_CURRENT(S) &&
                AT(PLACES_NOW) != NOWHERE;
  source = 0; source_fails = 0; freezes = 0; target_ready = 0; watches_s = 0; down_at_s = 0;
  forget()
}

inline target_dies() {
  late_commit = commits && IS_OPEN(RECORD_AT(T)) && COMMIT_HOLDS && HAS_NODE(PLACES_NOW, T);
  late_slots = late_commit && commit_slots;
  target = 0; target_fails = 0; commits = 0; commit_slots = 0; watches_t = 0; down_at_t = 0;
  forget()
}

inline third_dies() {
  late_start = late_start || coordinator == CHECKED;
  coordinator = 0;
  forget()
}

proctype Faults() {
  do
#ifdef CRASH
  :: STEP { faults_left && IS_UP(S) -> faults_left--; node[S] = DOWN; break_link(); source_dies() }
  :: STEP { faults_left && IS_UP(T) -> faults_left--; node[T] = DOWN; break_link(); target_dies() }
  :: STEP { faults_left && IS_UP(C) -> faults_left--; node[C] = DOWN; third_dies() }
#endif
#ifdef BREAK
  :: STEP { faults_left && IS_UP(S) && IS_UP(T) -> faults_left--; break_link() }
#endif
#ifdef LOSE
  :: STEP { faults_left && node[S] != LOST ->
       faults_left--; node[S] = LOST; lease[S] = 1; break_link(); source_dies();
       gate[S] = 0; again = 0;
#ifdef BUG_REBOOT
       bare[S] = 1;
#endif
       if :: IS_THERE(S) -> copy[S] = WITH_NODE :: else fi }
  :: STEP { faults_left && node[T] != LOST ->
       faults_left--; node[T] = LOST; lease[T] = 1; break_link(); target_dies();
       gate[T] = 0; images = 0; capsule = 0; taken_in = 0; pager = 0;
#ifdef BUG_REBOOT
       bare[T] = 1;
#endif
       if :: copy[T] != NO_COPY -> copy[T] = WITH_NODE :: else fi }
  :: STEP { faults_left && node[C] != LOST -> faults_left--; node[C] = LOST; third_dies(); gate[C] = 0 }
#endif
#ifdef REBOOT
  // That takes long enough for what it had asked of etcd to be there, or lost.
  :: STEP { faults_left && node[S] == LOST -> faults_left--; node[S] = DOWN; late_freeze = 0 }
  :: STEP { faults_left && node[T] == LOST ->
       faults_left--; node[T] = DOWN; late_commit = 0; late_slots = 0 }
#endif
#ifdef EXPIRE
  // Cut off from etcd, or without a dvsd, for longer than its lease.
  :: STEP { faults_left && node[S] != LOST && HAS_NODE(PLACES_NOW, S) && !AGAIN(PLACES_NOW) ->
       faults_left--; lose_places(S, NODES(PLACES_NOW) & 2) }
  :: STEP { faults_left && node[T] != LOST && HAS_NODE(PLACES_NOW, T) ->
       faults_left--; late_commit = 0; late_slots = 0; lose_places(T, NODES(PLACES_NOW) & 1) }
  :: STEP { faults_left && IS_UP(S) && HAS_NODE(PLACES_NOW, S) && !AGAIN(PLACES_NOW) ->
       faults_left--; node[S] = DOWN; break_link(); source_dies();
       lose_places(S, NODES(PLACES_NOW) & 2) }
  :: STEP { faults_left && IS_UP(T) && HAS_NODE(PLACES_NOW, T) ->
       faults_left--; node[T] = DOWN; break_link(); target_dies();
       late_commit = 0; late_slots = 0;
       lose_places(T, NODES(PLACES_NOW) & 1) }
#endif
#ifdef CANCEL
  :: STEP { faults_left && IS_UP(C) && MAY_WRITE(C) -> faults_left--; write_rollback(SLOTS(RECORD_AT(C))) }
#endif
#ifdef UNKNOWN
  :: STEP { faults_left && IS_UP(C) && coordinator == CHECKED ->
       faults_left--; late_start = 1;
#ifdef BUG_START_UNANSWERED
       coordinator = STARTED
#endif
     }
#endif
  :: true -> break
  od;
  faults_left = 0
}

init {
  STEP {
    node[S] = UP; node[T] = UP; node[C] = UP;
    copy[S] = RUNS; watches_s = 1;
    images = 1; coordinator = CHECKED;
    places[0] = PLACES(AT_S, 0, 3)
  }
  atomic { run Source(); run Target(); run Third(); run Pager(); run World(); run Process(); run Faults() }
}

// ---- what must hold ----

// At any time. (The assertions above say more: of each step.)
ltl safe { [] !(copy[S] == RUNS && copy[T] == RUNS) }

// In the end, whoever did what first. There is no fairness to ask for: faults are counted, nobody
// repeats in vain, so every run ends.
#define IS_COMMITTED (STATE(RECORD_NOW) == COMMITTED)
#define ALL_LOST (node[S] == LOST && node[T] == LOST && node[C] == LOST)

// The record has an outcome.
#define DECIDED (!IS_OPEN(RECORD_NOW) || ALL_LOST)
#define GATES (gate[S] == 0 && gate[T] == 0 && gate[C] == 0)
// It runs where the outcome says; or was lost with the node where that is, or ended, since its
// memory could not be had.
#define ONE_COPY \
  ((!IS_COMMITTED && copy[T] != RUNS && (copy[S] == RUNS || copy[S] == WITH_NODE)) || \
   (IS_COMMITTED && copy[S] != RUNS && \
    (copy[T] == RUNS || copy[T] == WITH_NODE || \
     (copy[T] == ENDED && (MEMORY(RECORD_NOW) == MEMORY_LOST || node[S] == LOST)))))
// Nothing frozen, held or kept, nobody busy.
#define NOTHING_LEFT \
  (copy[S] != STOPPED && copy[T] != STOPPED && !images && source == 0 && target == 0 && \
   (MEMORY(RECORD_NOW) != OWED || ALL_LOST))
// The endpoint is where its process runs, and is the one that the region there knows.
#define PLACED \
  ((copy[S] != RUNS || (AT(PLACES_NOW) == AT_S && AGAIN(PLACES_NOW) == again)) && \
   (copy[T] != RUNS || (AT(PLACES_NOW) == AT_T && AGAIN(PLACES_NOW) == capsule)))
// Who asked for the migration is told how it ended.
#define TOLD (coordinator != STARTED)

ltl decided { <>[] DECIDED }
ltl gates { <>[] GATES }
ltl one_copy { <>[] ONE_COPY }
ltl nothing_left { <>[] NOTHING_LEFT }
ltl placed { <>[] PLACED }
ltl told { <>[] TOLD }
// All of them at once, which takes a fifth of the time.
ltl ends_well { <>[] (DECIDED && GATES && ONE_COPY && NOTHING_LEFT && PLACED && TOLD) }
