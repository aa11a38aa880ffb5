# Everything here is a thin name for a script; `make help` lists what there is.
.PHONY: help run test build install deb bench soak coverage lint chart clean
.DEFAULT_GOAL := help

prefix = /usr/local
binary = build/curlew

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | while IFS="$$(printf '\t')" read -r name what; do printf '  make %-8s  %s\n' "$$name" "$$what"; done

run: ## install what is missing, build, and start the server on port 6001 with config/config.json
	@scripts/run.sh

test: ## install what is missing, build three times (release, address and thread sanitizers), run all tests
	@scripts/test.sh

build: ## install what is missing, build build/curlew
	@scripts/install-packages.sh build
	@scripts/build.sh release

install: ## copy build/curlew, its systemd units, manual pages and completions below prefix, which is /usr/local; DESTDIR is put in front of it
	@scripts/install.sh "$(DESTDIR)" "$(prefix)" "$(binary)"

deb: ## build the Debian package build/deb/curlew_*.deb; DEB_REVISION is the last part of its version, which is 1
	@scripts/install-packages.sh build deb
	@scripts/build.sh release
	@scripts/deb.sh "$(binary)"

bench: ## build the load generator and measure; BENCH_ARGS are passed on
	@scripts/install-packages.sh build
	@scripts/build.sh release
	@scripts/bench.sh $(BENCH_ARGS)

soak: ## operations at random with sanitizers, then everything at once, 10 minutes each: nothing may be lost, and memory may not grow; SOAK_ARGS are passed on
	@scripts/soak.sh $(SOAK_ARGS)

coverage: ## run the tests and print the lines and branches that ran, by folder; E2E names end-to-end test files
	@scripts/coverage.sh $(E2E)

lint: ## check format, structure and names of src/, shell scripts and JavaScript; clang-tidy and cppcheck; two to four minutes
	@scripts/install-packages.sh build lint
	@scripts/lint.sh

chart: ## check the Helm chart; builds helm first, which needs Go 1.24
	@scripts/lint-chart.sh

clean: ## remove everything that was built or fetched
	rm -rf build build-asan build-tsan build-fuzz build-coverage build-lint build-helm tests/node_modules scripts/javascript/node_modules scripts/python/packages examples/node_modules tests/clients/java/jars tests/clients/python/packages tests/backends/jars tests/toml/cases
