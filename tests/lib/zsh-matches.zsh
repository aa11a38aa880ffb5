#!/usr/bin/env zsh
# usage: zsh -f zsh-matches.zsh FOLDER LINE
#
# Prints what an interactive zsh offers at the end of LINE, with the completions in FOLDER: each match in a line that
# begins with "<match>". The shell runs on a terminal of its own.
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
zpty -w shell 'complete-and-exit() { zle complete-word; print -r -- "<end>"; exit }
zle -N complete-and-exit; bindkey "^I" complete-and-exit; print "<""ready>"'
zpty -r shell lines '*<ready>*'
zpty -n -w shell "$2"$'\t'
zpty -r shell lines '*<end>*'
print -r -- $lines
zpty -d shell
