#!/usr/bin/env zsh
# usage: zsh -f zsh-matches.zsh FOLDER LINE...
#
# Prints what an interactive zsh offers at the end of each LINE, with the completions in FOLDER: each match in a line that
# begins with "<match>", and "<end>" behind those of a line. The shell runs on a terminal of its own.
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PROMPT= PS2=; setopt no_beep; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D"
# What _arguments and _describe hand on is printed; what they only sort (options -O, -A, -D) is not.
zpty -w shell 'compadd() {
  if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
    local -a found
    builtin compadd -A found "$@"
    print -rl -- "<match>"$^found
  fi
  builtin compadd "$@"
}'
zpty -w shell 'complete-and-clear() { zle complete-word; BUFFER=; print -r -- "<end>" }
zle -N complete-and-clear; bindkey "^I" complete-and-clear; print "<""ready>"'
zpty -r shell lines '*<ready>*'
shift
for line; do
  zpty -n -w shell "$line"$'\t'
  zpty -r shell lines '*<end>*'
  print -r -- $lines
done
zpty -d shell
