// A plain push-level A* for Sokoban on one core, the rate that the solver of this project is compared with.
//
//   astar MAX_NODES FILE...
//
// Every level is searched for a plan with the fewest pushes: states are box sets with the player's region, pushes onto
// dead squares are left out, and the bound is the sum of each box's distance to its nearest target. One line a level:
// pushes (-1: proven unsolvable, -2: given up after MAX_NODES expansions) and expansions. The last line has the totals;
// its seconds are those of the searches, without reading. Malformed files end the program with status 2.

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

constexpr int kUnreachable = 1 << 20;
constexpr int kUnsolvable = -1, kGivenUp = -2;

struct Level {
  int width = 0;
  std::vector<char> cells;  // glyphs, row by row, walls around
};

[[noreturn]] void fail(const std::string& where, const std::string& why) {
  std::fprintf(stderr, "%s: %s\n", where.c_str(), why.c_str());
  std::exit(2);
}

// Reading ------------------------------------------------------------------------------------------------------------

bool is_board_row(const std::string& line) {
  return line.find('#') != std::string::npos && line.find_first_not_of("# -_.$*@+") == std::string::npos;
}

// Rows of one level as a board; refuses what cannot be played.
Level make_level(const std::vector<std::string>& rows, const std::string& where) {
  Level level;
  for (const auto& row : rows) level.width = std::max(level.width, static_cast<int>(row.size()));
  level.width += 2;
  level.cells.assign(level.width, '#');
  int players = 0, boxes = 0, targets = 0;
  for (const auto& row : rows) {
    level.cells.push_back('#');
    for (char glyph : row) {
      level.cells.push_back(glyph == '-' || glyph == '_' ? ' ' : glyph);
      players += glyph == '@' || glyph == '+';
      boxes += glyph == '$' || glyph == '*';
      targets += glyph == '.' || glyph == '*' || glyph == '+';
    }
    while (level.cells.size() % level.width) level.cells.push_back('#');
  }
  level.cells.insert(level.cells.end(), level.width, '#');
  if (players != 1) fail(where, std::to_string(players) + " players; a level has one");
  if (boxes == 0 || boxes != targets) {
    fail(where, std::to_string(boxes) + " boxes and " + std::to_string(targets) + " targets; a level has as many");
  }
  return level;
}

std::vector<Level> read(const std::string& path) {
  std::ifstream file(path);
  if (!file) fail(path, "cannot be read");
  std::vector<Level> levels;
  std::vector<std::string> rows;
  int number = 0, first = 0;
  auto finish = [&] {
    if (!rows.empty()) levels.push_back(make_level(rows, path + ":" + std::to_string(first)));
    rows.clear();
  };
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (is_board_row(line)) {
      if (rows.empty()) first = number;
      rows.push_back(line);
    } else if (line.empty() || line[0] == ';') {
      finish();
    } else {
      fail(path + ":" + std::to_string(number), "neither a row of a level nor a comment: " + line);
    }
  }
  finish();
  if (levels.empty()) fail(path, "no level");
  return levels;
}

// Searching ----------------------------------------------------------------------------------------------------------

// A set of at most 64 * Words cells.
template <int Words>
struct Cells {
  std::array<uint64_t, Words> words{};
  bool has(int cell) const { return words[cell >> 6] >> (cell & 63) & 1; }
  void flip(int cell) { words[cell >> 6] ^= uint64_t{1} << (cell & 63); }
  bool operator==(const Cells&) const = default;

  template <class Visit>
  void each(Visit visit) const {
    for (int w = 0; w < Words; ++w) {
      for (uint64_t rest = words[w]; rest; rest &= rest - 1) visit(64 * w + std::countr_zero(rest));
    }
  }
};

template <int Words>
struct State {
  Cells<Words> boxes;
  int player;  // the lowest cell that the player can walk to
  bool operator==(const State&) const = default;
};

template <int Words>
struct Hash {
  size_t operator()(const State<Words>& state) const {
    uint64_t mixed = state.player * 0xC2B2AE3D27D4EB4Full;
    for (uint64_t word : state.boxes.words) {
      mixed = (mixed ^ word) * 0x9E3779B97F4A7C15ull;
      mixed ^= mixed >> 31;
    }
    return mixed;
  }
};

struct Answer {
  int pushes;
  long expanded = 0;
};

// A* on one level. Cells are the level's floor, numbered row by row; `neighbours[c][d]` is -1 at a wall.
template <int Words>
class Search {
 public:
  explicit Search(const Level& level) {
    std::vector<int> number(level.cells.size(), -1);
    for (size_t i = 0; i < level.cells.size(); ++i) {
      if (level.cells[i] != '#') number[i] = num_cells_++;
    }
    const int steps[4] = {-level.width, level.width, -1, 1};  // d ^ 1 is the way back
    for (size_t i = 0; i < level.cells.size(); ++i) {
      const char glyph = level.cells[i];
      const int cell = number[i];
      if (cell < 0) continue;
      auto& around = neighbours_.emplace_back();
      for (int d = 0; d < 4; ++d) around[d] = number[i + steps[d]];
      if (glyph == '$' || glyph == '*') start_.boxes.flip(cell);
      if (glyph == '.' || glyph == '*' || glyph == '+') targets_.flip(cell);
      if (glyph == '@' || glyph == '+') start_.player = cell;
    }
    find_distances();
    visited_.resize(num_cells_);
    stack_.resize(num_cells_);
  }

  Answer run(long max_nodes) {
    Answer answer{kUnsolvable};
    start_.player = walk(start_.boxes, start_.player);
    open(start_, 0, 0);
    for (size_t f = 0; f < queues_.size(); ++f) {
      while (!queues_[f].empty()) {
        const auto [state, pushes] = queues_[f].back();
        queues_[f].pop_back();
        if (pushes > best_.at(state)) continue;
        if (state.boxes == targets_) return {pushes, answer.expanded};
        if (answer.expanded == max_nodes) return {kGivenUp, answer.expanded};
        ++answer.expanded;
        expand(state, pushes, static_cast<int>(f));
      }
    }
    return answer;
  }

 private:
  // The fewest pulls from the nearest target, with no other box about; unreachable cells are dead squares.
  void find_distances() {
    distance_.assign(num_cells_, kUnreachable);
    std::vector<int> queue;
    targets_.each([&](int cell) {
      distance_[cell] = 0;
      queue.push_back(cell);
    });
    for (size_t i = 0; i < queue.size(); ++i) {
      for (int d = 0; d < 4; ++d) {
        const int to = neighbours_[queue[i]][d];
        if (to < 0 || neighbours_[to][d] < 0 || distance_[to] != kUnreachable) continue;
        distance_[to] = distance_[queue[i]] + 1;
        queue.push_back(to);
      }
    }
  }

  // Marks the cells that the player reaches; returns the lowest.
  int walk(const Cells<Words>& boxes, int player) {
    ++visit_;
    int size = 0, lowest = player;
    auto enter = [&](int cell) {
      visited_[cell] = visit_;
      stack_[size++] = cell;
      lowest = std::min(lowest, cell);
    };
    enter(player);
    while (size) {
      for (int to : neighbours_[stack_[--size]]) {
        if (to >= 0 && visited_[to] != visit_ && !boxes.has(to)) enter(to);
      }
    }
    return lowest;
  }

  void expand(const State<Words>& state, int pushes, int f) {
    walk(state.boxes, state.player);
    moves_.clear();
    state.boxes.each([&](int box) {
      for (int d = 0; d < 4; ++d) {
        const int from = neighbours_[box][d ^ 1], to = neighbours_[box][d];
        if (from < 0 || to < 0 || visited_[from] != visit_) continue;
        if (!state.boxes.has(to) && distance_[to] < kUnreachable) moves_.push_back({box, to});
      }
    });
    for (const auto& [box, to] : moves_) {
      State<Words> child{state.boxes, 0};
      child.boxes.flip(box);
      child.boxes.flip(to);
      child.player = walk(child.boxes, box);
      open(child, pushes + 1, f);
    }
  }

  // Queues a state by pushes + bound, at least that of its parent, where it was not reached with as few pushes.
  void open(const State<Words>& state, int pushes, int least) {
    const auto [known, fresh] = best_.try_emplace(state, pushes);
    if (!fresh && known->second <= pushes) return;
    known->second = pushes;
    int f = pushes;
    state.boxes.each([&](int box) { f += distance_[box]; });
    if (f >= kUnreachable) return;
    f = std::max(f, least);
    if (static_cast<size_t>(f) >= queues_.size()) queues_.resize(f + 1);
    queues_[f].push_back({state, pushes});
  }

  int num_cells_ = 0;
  std::vector<std::array<int, 4>> neighbours_;
  Cells<Words> targets_;
  State<Words> start_{};
  std::vector<int> distance_, visited_, stack_;
  int visit_ = 0;
  std::vector<std::pair<int, int>> moves_;
  std::unordered_map<State<Words>, int, Hash<Words>> best_;        // state -> fewest pushes so far
  std::vector<std::vector<std::pair<State<Words>, int>>> queues_;  // by f, last in first out
};

Answer solve(const Level& level, long max_nodes) {
  int cells = 0;
  for (char glyph : level.cells) cells += glyph != '#';
  if (cells <= 64) return Search<1>(level).run(max_nodes);
  if (cells <= 256) return Search<4>(level).run(max_nodes);
  if (cells <= 1024) return Search<16>(level).run(max_nodes);
  fail("level", std::to_string(cells) + " cells of floor; at most 1,024 are supported");
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) fail("usage", "astar MAX_NODES FILE...");
  char* end = nullptr;
  const long max_nodes = std::strtol(arguments[1], &end, 10);
  if (*end != '\0' || max_nodes < 1) fail("MAX_NODES", std::string(arguments[1]) + " is not a positive number");
  std::vector<Level> levels;
  for (int i = 2; i < count; ++i) {
    for (auto& level : read(arguments[i])) levels.push_back(std::move(level));
  }
  std::vector<Answer> answers;
  const auto start = std::chrono::steady_clock::now();
  for (const auto& level : levels) answers.push_back(solve(level, max_nodes));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  long solved = 0, pushes = 0, expanded = 0;
  for (const auto& answer : answers) {
    std::printf("%d %ld\n", answer.pushes, answer.expanded);
    solved += answer.pushes >= 0;
    pushes += std::max(answer.pushes, 0);
    expanded += answer.expanded;
  }
  std::printf("levels %zu solved %ld pushes %ld expanded %ld seconds %.6f\n", levels.size(), solved, pushes, expanded,
              seconds.count());
}
