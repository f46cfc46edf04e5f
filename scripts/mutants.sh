#!/usr/bin/env bash
# usage: scripts/mutants.sh [NAME…]     breaks the code on purpose, one break at a time, and sees the tests notice
#
# Each Tests/Mutants/NAME.mutant says which text of which file becomes what, and which tests must fail then. The break is
# made in a scratch copy of the tree (MUTANTS_DIR, default .build/mutants), built there, and only those tests are run.
# killed: a test failed, as it must. SURVIVED: all passed, and the script ends with 1.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
scratch=${MUTANTS_DIR:-$root/.build/mutants}
limit=${MUTANTS_TIMEOUT:-600}
mkdir -p "$scratch"

field() { sed -n "s/^$2: //p" "$1" | head -1; }

# The tree as it is now, kept apart, so that one may go on editing. Times are kept, so that only what differs is built again.
rm -rf "$scratch/base"
mkdir -p "$scratch/base" "$scratch/tree"
cp -a "$root"/Package.* "$root/Sources" "$root/Tests" "$scratch/base/"
if [ -d "$root/fixtures" ]; then cp -a "$root/fixtures" "$scratch/base/"; fi
refresh() {
  rm -rf "$scratch/tree/Sources" "$scratch/tree/Tests"
  cp -a "$scratch/base/." "$scratch/tree/"
}

apply() { # MUTANT: replaces the one place where the text stands
  FILE="$scratch/tree/$(field "$1" file)" MUTANT="$1" perl -0777 -e '
    my $m = do { open my $f, "<", $ENV{MUTANT} or die; local $/; <$f> };
    my ($find, $replace) = $m =~ /^--- find\n(.*?)^--- replace\n(.*)\z/ms or die "not a mutant\n";
    my $s = do { open my $f, "<", $ENV{FILE} or die "$ENV{FILE}: $!\n"; local $/; <$f> };
    my $n = () = $s =~ /\Q$find\E/g;
    die "the text stands $n times in $ENV{FILE}, not once\n" if $n != 1;
    $s =~ s/\Q$find\E/$replace/;
    open my $f, ">", $ENV{FILE} or die; print $f $s;'
}

survived=0
killed=0
for mutant in "$scratch"/base/Tests/Mutants/*.mutant; do
  name=$(basename "$mutant" .mutant)
  if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
  tests=$(field "$mutant" kills)
  refresh
  if ! apply "$mutant"; then echo "$name: STALE"; survived=$((survived + 1)); continue; fi
  if ! (cd "$scratch/tree" && swift build --build-tests -j 2 >"$scratch/$name.log" 2>&1); then
    echo "$name: DOES NOT BUILD, see $scratch/$name.log"; survived=$((survived + 1)); continue
  fi
  if (cd "$scratch/tree" && SWIFT_BACKTRACE=enable=no timeout -k 5 "$limit" swift test --skip-build --filter "$tests" >>"$scratch/$name.log" 2>&1); then
    echo "$name: SURVIVED $tests"; survived=$((survived + 1))
  elif grep -qE 'Test run with 0 tests|No matching test cases' "$scratch/$name.log"; then
    echo "$name: NO SUCH TESTS: $tests"; survived=$((survived + 1))
  else
    echo "$name: killed by $tests"; killed=$((killed + 1))
  fi
done
echo "$killed killed, $survived not"
[ "$survived" -eq 0 ]
